//! A Prometheus that reads the pods whose annotations ask for it.

use std::fs::{self, File};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::wire;
use crate::world::{SYSTEM, World};

/// A Prometheus that runs; it ends when it is dropped.
pub(super) struct Prometheus {
    process: Child,
    base: String,
    client: reqwest::Client,
}

impl Prometheus {
    /// Starts one beside the cluster, with the chart's rules and an empty memory.
    pub(super) async fn start(world: &World) -> Result<Self> {
        let targets = annotated(world).await.context("look for annotated pods")?;
        let folder = world.tools.target.join("prometheus");
        let _ = fs::remove_dir_all(&folder); // what a run before left
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let config = folder.join("prometheus.yml");
        fs::write(&config, configuration(world, &targets).to_string())
            .with_context(|| format!("write {}", config.display()))?;
        let log = folder.join("log");
        let log = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        // Who takes the port in between makes the start fail, which is told.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let process = Command::new("setpriv")
            // However the harness ends, nothing stays running.
            .args(["--pdeathsig", "KILL"])
            .arg(world.tools.program("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start Prometheus")?;
        Ok(Self {
            process,
            base: format!("http://{address}/api/v1"),
            client: wire::rest()?,
        })
    }

    /// What an expression gives now: a sample for each series.
    pub(super) async fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let url = format!("{}/query", self.base);
        let url = reqwest::Url::parse_with_params(&url, [("query", expression)])?;
        let data = self
            .ask(url)
            .await
            .with_context(|| format!("ask Prometheus for {expression}"))?;
        let Value::Array(samples) = &data["result"] else {
            bail!("Prometheus answers {expression} with {data}")
        };
        // A scalar has no series of its own, and is there.
        Ok(samples.clone())
    }

    /// Fails if Prometheus could not evaluate one of the chart's rules.
    pub(super) async fn rules_are_well(&self) -> Result<()> {
        let data = self.ask(format!("{}/rules", self.base).parse()?).await?;
        let groups = data["groups"].as_array().context("groups of rules")?;
        let rules: Vec<&Value> = groups
            .iter()
            .filter_map(|group| group["rules"].as_array())
            .flatten()
            .collect();
        ensure!(rules.len() > 20, "only {} rules are known", rules.len());
        for rule in rules {
            ensure!(
                rule["health"] == "ok",
                "rule {}: {} {}",
                rule["name"],
                rule["health"],
                rule["lastError"]
            );
        }
        Ok(())
    }

    /// The pages that are read.
    pub(super) async fn pages(&self) -> Result<Vec<String>> {
        let data = self.ask(format!("{}/targets", self.base).parse()?).await?;
        let targets = data["activeTargets"].as_array().context("targets")?;
        let pages: Vec<String> = targets
            .iter()
            .filter_map(|target| Some(target["scrapeUrl"].as_str()?.to_owned()))
            .collect();
        ensure!(!pages.is_empty(), "Prometheus reads nothing");
        Ok(pages)
    }

    async fn ask(&self, url: reqwest::Url) -> Result<Value> {
        let answer = self.client.get(url).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{status}: {text}");
        let mut answer: Value = serde_json::from_str(&text).with_context(|| format!("read {text}"))?;
        Ok(answer["data"].take())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It has nothing to lose.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Each pod of ours that says by annotations where its metrics are, as Prometheus' own example for Kubernetes finds them. The
/// harness looks in its place: Debian builds Prometheus without the discovery of Kubernetes.
async fn annotated(world: &World) -> Result<Vec<Value>> {
    let pods = Api::<Pod>::namespaced(world.client.clone(), SYSTEM)
        .list(&ListParams::default())
        .await?;
    let target = |pod: &Pod| {
        let annotation = |name: &str| pod.annotations().get(&format!("prometheus.io/{name}"));
        let address = pod.status.as_ref()?.pod_ip.as_ref()?;
        let told = annotation("scrape").is_some_and(|told| told == "true");
        let (port, path) = (annotation("port")?, annotation("path")?);
        let stays = pod.metadata.deletion_timestamp.is_none();
        // `namespace` and `pod` are what most installations add to what they read: none of our labels may be among them.
        (told && stays).then(|| {
            json!({
                "targets": [format!("{address}:{port}")],
                "labels": {"__metrics_path__": path, "namespace": SYSTEM, "pod": pod.name_any()},
            })
        })
    };
    Ok(pods.iter().filter_map(target).collect())
}

/// Reads those. JSON is YAML.
fn configuration(world: &World, targets: &[Value]) -> Value {
    json!({
        "global": {"scrape_interval": "2s", "evaluation_interval": "2s"},
        "rule_files": [world.tools.root.join("charts/afterglow/alerts/afterglow.yaml")],
        "scrape_configs": [{"job_name": "pods", "static_configs": targets}],
    })
}
