//! The engines' pages on the agent's page: one page to scrape a node, and models under the names that people know.
//!
//! An engine knows a model by the name that is unique on it, `NAMESPACE.REPLICA`. Whose model that is, the agent knows: it
//! replaces the label `model` and adds `model_namespace` and `replica`. None of these names is one that Prometheus gives to what
//! it scrapes (`namespace`, `pod`, `job`, …), so no series comes out as `exported_…`, however it is scraped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use afterglow_crds::model_replica::ModelReplica;
use futures::future::join_all;
use tokio::sync::watch;

use super::sample::{Sample, escape};
use crate::host::{self, Vitals};

/// An engine that does not answer by then is left out of the page; Prometheus itself waits for 10 s.
const WITHIN: Duration = Duration::from_secs(2);

/// Whose series these are: on each of them as the labels `node` and `inference_cluster`.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The node.
    pub node: String,
    /// The `InferenceCluster`.
    pub cluster: String,
}

/// The pages of a node's engines as one.
#[derive(Debug)]
pub(super) struct Engines {
    owner: Owner,
    vitals: watch::Receiver<Vitals>,
    replicas: watch::Receiver<Vec<ModelReplica>>,
    client: reqwest::Client,
}

impl Engines {
    /// `vitals` says where the engines are, `replicas` whose models they serve.
    pub(super) fn new(
        owner: Owner,
        vitals: watch::Receiver<Vitals>,
        replicas: watch::Receiver<Vec<ModelReplica>>,
    ) -> Self {
        // A proxy is for the way out of the cluster, not for processes of this pod.
        let client = reqwest::Client::builder().timeout(WITHIN).no_proxy().build();
        Self {
            owner,
            vitals,
            replicas,
            client: client.unwrap_or_default(),
        }
    }

    /// What all engines that answer say now.
    pub(super) async fn page(&self) -> String {
        let running: Vec<(String, String)> = {
            let vitals = self.vitals.borrow();
            let running = vitals.iter().filter_map(|(device, vital)| {
                let address = vital.metrics?;
                Some((device.clone(), format!("http://{address}/metrics")))
            });
            running.collect()
        };
        let pages = running.into_iter().map(async |(device, url)| {
            let text = self.client.get(url).send().await.ok()?.text().await.ok()?;
            Some((device, text))
        });
        let pages: Vec<(String, String)> = join_all(pages).await.into_iter().flatten().collect();
        let names = names(&self.replicas.borrow());
        merge(&pages, &self.owner, &names)
    }
}

/// What an engine calls a model → the labels that say whose it is, ready to be written.
type Names = BTreeMap<String, String>;

fn names(replicas: &[ModelReplica]) -> Names {
    let labels = |replica: &ModelReplica| {
        let (namespace, name) = host::key(replica);
        let model = replica.spec.model.name.as_deref().unwrap_or(&name);
        let labels = format!(
            "model=\"{}\",model_namespace=\"{}\",replica=\"{}\"",
            escape(model),
            escape(&namespace),
            escape(&name)
        );
        (host::engine_name(&(namespace, name)), labels)
    };
    replicas.iter().map(labels).collect()
}

/// Pages as one: each family's comments once, its samples below them.
fn merge(pages: &[(String, String)], owner: &Owner, names: &Names) -> String {
    let mut families: BTreeMap<&str, (Vec<&str>, Vec<String>)> = BTreeMap::new();
    for (device, page) in pages {
        let mut family = "";
        for line in page.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# ") {
                family = comment.split(' ').nth(1).unwrap_or_default();
                let (comments, _) = families.entry(family).or_default();
                if !comments.contains(&line) {
                    comments.push(line);
                }
            } else if let Some(sample) = Sample::parse(line)
                && let Some(written) = relabelled(&sample, device, owner, names)
            {
                families.entry(family).or_default().1.push(written);
            }
        }
    }
    let mut text = String::new();
    for (comments, samples) in families.into_values().filter(|(_, samples)| !samples.is_empty()) {
        for line in comments.into_iter().map(str::to_owned).chain(samples) {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// `None`: a model that is on its way out, whose replica is not known any more.
fn relabelled(sample: &Sample<'_>, device: &str, owner: &Owner, names: &Names) -> Option<String> {
    let mut line = format!(
        "{}{{device=\"{}\",node=\"{}\",inference_cluster=\"{}\"",
        sample.name,
        escape(device),
        escape(&owner.node),
        escape(&owner.cluster)
    );
    for (label, value) in &sample.labels {
        let _ = match *label {
            "model" => write!(line, ",{}", names.get(*value)?),
            // An engine's own `device` is how OpenCL selects it; ours is the one that the rest of the cluster knows.
            "device" => write!(line, ",selector=\"{value}\""),
            _ => write!(line, ",{label}=\"{value}\""),
        };
    }
    let _ = write!(line, "}} {}", sample.value);
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn owner() -> Owner {
        Owner {
            node: "rig-1".into(),
            cluster: "lab".into(),
        }
    }

    fn replica(name: &str, model: Option<&str>) -> ModelReplica {
        let mut replica: ModelReplica = serde_json::from_value(json!({
            "apiVersion": "afterglow.dev/v1alpha1", "kind": "ModelReplica",
            "metadata": {"name": name, "namespace": "team"},
            "spec": {
                "cluster": "lab", "nodeName": "rig-1", "device": "gpu-0", "revision": 2, "memory": "1Gi",
                "model": {"source": {"uri": "https://h/m.onnx", "digest": "sha256:0"}}
            }
        }))
        .unwrap();
        replica.spec.model.name = model.map(str::to_owned);
        replica
    }

    #[test]
    fn two_engines_make_one_page_with_each_family_once() {
        let page = |value: u32| {
            format!(
                "# HELP nv_count Count\n# TYPE nv_count counter\nnv_count{{model=\"team.m-2-x\",version=\"2\"}} {value}\n\
                 # HELP up Up\n# TYPE up gauge\nup 1\n\
                 # HELP info Info\n# TYPE info gauge\ninfo{{device=\"opencl:0\",version=\"1\"}} 1\n"
            )
        };
        let names = names(&[replica("m-2-x", Some("m"))]);
        let merged = merge(
            &[("gpu-0".into(), page(1)), ("gpu-1".into(), page(2))],
            &owner(),
            &names,
        );
        assert_eq!(merged.matches("# TYPE nv_count counter").count(), 1);
        let whose = "node=\"rig-1\",inference_cluster=\"lab\"";
        let model = "model=\"m\",model_namespace=\"team\",replica=\"m-2-x\",version=\"2\"";
        for line in [
            format!("nv_count{{device=\"gpu-0\",{whose},{model}}} 1"),
            format!("nv_count{{device=\"gpu-1\",{whose},{model}}} 2"),
            format!("up{{device=\"gpu-1\",{whose}}} 1"),
            format!("info{{device=\"gpu-0\",{whose},selector=\"opencl:0\",version=\"1\"}} 1"),
        ] {
            assert!(merged.lines().any(|found| found == line), "{line}\n{merged}");
        }
    }

    #[test]
    fn a_model_that_nobody_knows_any_more_has_no_series_and_one_without_a_name_its_replicas() {
        let page = "# TYPE nv_count counter\nnv_count{model=\"team.a\"} 1\nnv_count{model=\"team.gone\"} 1\n\
                    # TYPE only counter\nonly{model=\"team.gone\"} 1\n";
        let merged = merge(
            &[("gpu-0".into(), page.into())],
            &owner(),
            &names(&[replica("a", None)]),
        );
        assert!(
            merged.contains("model=\"a\",model_namespace=\"team\",replica=\"a\"} 1"),
            "{merged}"
        );
        assert!(!merged.contains("gone") && !merged.contains("only"), "{merged}");
    }

    #[tokio::test]
    async fn an_engine_that_does_not_answer_is_left_out() {
        let answers = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = answers.local_addr().unwrap();
        let app =
            axum::Router::new().route("/metrics", axum::routing::get(async || "# TYPE up gauge\nup 1\n"));
        tokio::spawn(axum::serve(answers, app).into_future());
        let nobody = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let at = |metrics| host::Vital { metrics, restarts: 0 };
        let vitals = Vitals::from([
            ("gpu-0".to_owned(), at(Some(address))),
            ("gpu-1".to_owned(), at(Some(nobody))),
            ("gpu-2".to_owned(), at(None)),
        ]);
        let engines = Engines::new(owner(), watch::channel(vitals).1, watch::channel(Vec::new()).1);
        let page = engines.page().await;
        assert_eq!(page.lines().count(), 2, "{page}");
        assert!(page.contains("up{device=\"gpu-0\""), "{page}");
    }
}
