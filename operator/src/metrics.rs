//! The operator's metrics. Label values come from closed sets, and from the names of the cluster's own objects up to a limit;
//! never from error texts.

mod sight;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

pub(crate) use sight::{ModelSight, Sight};

/// What is reconciled.
const KINDS: [&str; 2] = ["InferenceCluster", "ModelDeployment"];
/// How it ends.
const RESULTS: [&str; 4] = ["ok", "unreadable", "apply", "report"];
/// What is asked of the API server.
const VERBS: [&str; 6] = ["create", "delete", "get", "patch", "update", "watch"];

/// How the leader sees the fleet, asked when somebody reads the metrics.
pub(crate) type Look = Arc<dyn Fn() -> Sight + Send + Sync>;

/// Everything that is counted.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    reconciles: IntCounterVec,
    duration: HistogramVec,
    leader: IntGauge,
    api_errors: IntCounterVec,
    writes: IntCounterVec,
    look: Arc<Mutex<Option<Look>>>,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).expect("name and labels are valid")
        };
        let metrics = Self {
            reconciles: counter(
                "afterglow_operator_reconciles_total",
                "Reconciles by kind and result (ok or the step that failed)",
                &["kind", "result"],
            ),
            duration: HistogramVec::new(
                HistogramOpts::new(
                    "afterglow_operator_reconcile_duration_seconds",
                    "How long a reconcile took",
                )
                .buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]),
                &["kind"],
            )
            .expect("name and labels are valid"),
            leader: IntGauge::new(
                "afterglow_operator_leader",
                "1 while this process runs the controllers, else 0",
            )
            .expect("name is valid"),
            api_errors: counter(
                "afterglow_operator_api_errors_total",
                "Calls to the API server that failed or had no answer in time, by verb",
                &["verb"],
            ),
            writes: counter(
                "afterglow_operator_writes_total",
                "Writes to the API server that succeeded, by kind of object and verb",
                &["kind", "verb"],
            ),
            look: Arc::default(),
            registry,
        };
        let Self {
            registry,
            reconciles,
            duration,
            leader,
            api_errors,
            writes,
            look: _,
        } = &metrics;
        for collector in [
            Box::new(reconciles.clone()) as Box<dyn prometheus::core::Collector>,
            Box::new(duration.clone()),
            Box::new(leader.clone()),
            Box::new(api_errors.clone()),
            Box::new(writes.clone()),
        ] {
            registry
                .register(collector)
                .expect("each name is registered once");
        }
        // A series that is there before the first failure shows the first failure as a step.
        for kind in KINDS {
            duration.with_label_values(&[kind]);
            for result in RESULTS {
                reconciles.with_label_values(&[kind, result]);
            }
        }
        for verb in VERBS {
            api_errors.with_label_values(&[verb]);
        }
        metrics
    }

    /// A reconcile has ended.
    pub(crate) fn reconciled(&self, kind: &str, result: &str, took: Duration) {
        self.reconciles.with_label_values(&[kind, result]).inc();
        self.duration
            .with_label_values(&[kind])
            .observe(took.as_secs_f64());
    }

    /// Whether this process leads.
    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// From now on the fleet is seen so; `None`: not at all, as by everybody who does not lead.
    pub(crate) fn sees(&self, look: Option<Look>) {
        *self.look.lock().unwrap_or_else(PoisonError::into_inner) = look;
    }

    /// A call failed.
    pub(crate) fn api_error(&self, verb: &str) {
        self.api_errors.with_label_values(&[verb]).inc();
    }

    /// Something was written.
    pub(crate) fn wrote(&self, kind: &str, verb: &str) {
        self.writes.with_label_values(&[kind, verb]).inc();
    }

    /// In Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let look = self.look.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut families = self.registry.gather();
        let mut text = Vec::new();
        let written = look
            .map_or(Ok(Vec::new()), |look| sight::families(&look()))
            .and_then(|seen| {
                families.extend(seen);
                TextEncoder::new().encode(&families, &mut text)
            });
        if let Err(error) = written {
            tracing::warn!(%error, "metrics could not be rendered");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Sight {
        Sight {
            nodes: vec![("lab".to_owned(), "rig-1".to_owned(), false)],
            models: vec![ModelSight {
                cluster: "lab".to_owned(),
                namespace: "team".to_owned(),
                model: "m".to_owned(),
                wanted: 2,
                ready: 1,
            }],
        }
    }

    #[test]
    fn the_guides_table_lists_what_an_operator_shows_and_nothing_else() {
        let metrics = Metrics::new();
        metrics.wrote("ModelReplica", "create");
        metrics.sees(Some(Arc::new(seen)));
        crate::metrics_table::agrees("operator", &metrics.render(), &[]);
    }

    #[test]
    fn only_a_leader_speaks_of_the_fleet() {
        let metrics = Metrics::new();
        let alive = r#"afterglow_operator_gpu_node_alive{gpu_node="rig-1",inference_cluster="lab"} 0"#;
        metrics.sees(Some(Arc::new(seen)));
        assert!(metrics.render().contains(alive), "{}", metrics.render());
        metrics.sees(None);
        assert!(!metrics.render().contains("gpu_node"));
    }

    #[test]
    fn a_failure_that_never_came_is_a_zero_and_not_a_gap() {
        let text = Metrics::new().render();
        for line in [
            r#"afterglow_operator_reconciles_total{kind="ModelDeployment",result="apply"} 0"#,
            r#"afterglow_operator_api_errors_total{verb="watch"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
