//! The fleet as the leader sees it: which nodes' agents are alive, and how many replicas each model has of those it should have.

use std::collections::BTreeMap;

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

/// Nodes and models that are named in series; further ones share `other`.
const MOST: usize = 1000;
const OTHER: &str = "other";

/// What the leader sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Cluster and name of each node that has an agent, and whether that is alive.
    pub(crate) nodes: Vec<(String, String, bool)>,
    /// Each model.
    pub(crate) models: Vec<ModelSight>,
}

/// A model that somebody deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelSight {
    /// Its `InferenceCluster`.
    pub(crate) cluster: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// The name that clients use.
    pub(crate) model: String,
    /// Replicas that it should have.
    pub(crate) wanted: i32,
    /// Replicas that answer.
    pub(crate) ready: i32,
}

/// The families that tell of it.
pub(super) fn families(sight: &Sight) -> prometheus::Result<Vec<MetricFamily>> {
    let alive = gauge(
        "afterglow_operator_gpu_node_alive",
        "1 while the node's agent gives signs of life, 0 once it counts as lost",
        &["inference_cluster", "gpu_node"],
    )?;
    // Of those that share a name, one that is lost is what matters.
    let mut nodes: BTreeMap<[&str; 2], bool> = BTreeMap::new();
    for (place, (cluster, node, is_alive)) in sight.nodes.iter().enumerate() {
        let name = if place < MOST { node } else { OTHER };
        let all = nodes.entry([cluster, name]).or_insert(true);
        *all = *all && *is_alive;
    }
    for (labels, is_alive) in nodes {
        alive.with_label_values(&labels).set(i64::from(is_alive));
    }
    let replicas = gauge(
        "afterglow_operator_model_replicas",
        "Replicas of a model: wanted, and ready",
        &["inference_cluster", "model_namespace", "model", "state"],
    )?;
    for (place, model) in sight.models.iter().enumerate() {
        let (namespace, name) = if place < MOST {
            (model.namespace.as_str(), model.model.as_str())
        } else {
            (OTHER, OTHER)
        };
        for (state, count) in [("wanted", model.wanted), ("ready", model.ready)] {
            replicas
                .with_label_values(&[model.cluster.as_str(), namespace, name, state])
                .add(i64::from(count));
        }
    }
    let mut families = alive.collect();
    families.extend(replicas.collect());
    families.retain(|family| !family.get_metric().is_empty());
    Ok(families)
}

fn gauge(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    IntGaugeVec::new(Opts::new(name, help), labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_beyond_the_limit_is_counted_whole_under_one_name() {
        let sight = Sight {
            nodes: (0..MOST + 2)
                .map(|i| ("lab".to_owned(), format!("rig-{i}"), i != MOST))
                .collect(),
            models: (0..MOST + 2)
                .map(|i| ModelSight {
                    cluster: "lab".to_owned(),
                    namespace: "team".to_owned(),
                    model: format!("m-{i}"),
                    wanted: 2,
                    ready: 1,
                })
                .collect(),
        };
        let families = families(&sight).expect("names are valid");
        let [alive, replicas] = &families[..] else {
            panic!("there are two families: {families:?}");
        };
        assert_eq!(alive.get_metric().len(), MOST + 1);
        let lost = |metric: &&prometheus::proto::Metric| metric.get_gauge().get_value() == 0.0;
        assert_eq!(
            alive.get_metric().iter().filter(lost).count(),
            1,
            "a lost one is not hidden"
        );
        assert_eq!(replicas.get_metric().len(), 2 * (MOST + 1));
        let all: f64 = replicas
            .get_metric()
            .iter()
            .map(|metric| metric.get_gauge().get_value())
            .sum();
        assert!((all - 3.0 * (MOST + 2) as f64).abs() < 0.5, "{all}");
    }

    #[test]
    fn an_empty_fleet_has_no_families() {
        assert!(families(&Sight::default()).expect("names are valid").is_empty());
    }
}
