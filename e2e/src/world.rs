//! What a story holds in its hands: the cluster, the chart, the models, the standalone answers.

use std::fmt::Debug;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use afterglow_crds::{GpuNode, InferenceCluster, ModelDeployment, ModelReplica, labels};
use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::command::{command, feed, output};
use crate::load::Entrance;
use crate::models::Models;
use crate::provider::Provider;
use crate::reference::Reference;
use crate::tools::Tools;

/// Namespace of the chart's release.
pub const SYSTEM: &str = "afterglow-system";
/// The model that most stories serve, in the cluster's default namespace.
pub const MINILM: &str = "minilm";
/// A first start compiles the kernels for the device and proves the model against the CPU, on two cores for three nodes.
pub const FIRST_START: Duration = Duration::from_mins(8);
/// Everything else that takes longer than this hangs.
pub const SOON: Duration = Duration::from_mins(3);

/// The cluster and what belongs to it.
pub struct World {
    /// Folders and programs.
    pub tools: Tools,
    /// The cluster's nodes.
    pub provider: Box<dyn Provider>,
    /// The cluster's API.
    pub client: Client,
    /// Models, and where pods fetch them.
    pub models: Models,
    /// What a server without a cluster answers.
    pub reference: Reference,
    /// Images of node4's agent are loaded once.
    pub shim_loaded: bool,
    /// Whatever is left to chance follows from it.
    pub seed: u64,
}

impl World {
    /// Runs kubectl; an error is what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let (kubectl, kubeconfig) = (self.tools.program("kubectl"), self.provider.kubeconfig());
        let kubeconfig = kubeconfig.to_string_lossy();
        output(&[&[kubectl.as_str(), "--kubeconfig", &kubeconfig], arguments].concat())
    }

    /// Runs kubectl with objects on its standard input.
    pub fn kubectl_feed(&self, arguments: &[&str], objects: &str) -> Result<String> {
        let (kubectl, kubeconfig) = (self.tools.program("kubectl"), self.provider.kubeconfig());
        let kubeconfig = kubeconfig.to_string_lossy();
        let call = [&[kubectl.as_str(), "--kubeconfig", &kubeconfig], arguments].concat();
        feed(command(&call), objects)
    }

    /// `kubectl apply` of objects.
    pub fn apply(&self, objects: &[Value]) -> Result<()> {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.kubectl_feed(&["apply", "-f", "-"], &list.to_string())
            .map(drop)
    }

    /// Runs helm against the cluster.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        let (helm, kubeconfig) = (self.tools.program("helm"), self.provider.kubeconfig());
        let kubeconfig = kubeconfig.to_string_lossy();
        output(&[&[helm.as_str(), "--kubeconfig", &kubeconfig], arguments].concat())
    }

    /// The chart's folder.
    pub fn chart(&self) -> String {
        self.tools
            .root
            .join("charts/afterglow")
            .to_string_lossy()
            .into_owned()
    }

    /// What `helm template` makes of the chart.
    pub fn rendered(&self, arguments: &[&str]) -> Result<String> {
        let chart = self.chart();
        self.helm(
            &[
                &["template", "afterglow", &chart, "--namespace", SYSTEM],
                arguments,
            ]
            .concat(),
        )
    }

    /// Installs the chart as a user does; on an installed one it changes nothing.
    pub fn install(&self) -> Result<()> {
        install(&self.tools, &self.provider.kubeconfig())
    }

    /// Waits until the cluster serves: its agents offer devices and its schedulers answer.
    pub async fn cluster_ready(&self, name: &str, limit: Duration) -> Result<InferenceCluster> {
        self.until(&format!("InferenceCluster {name} is Ready"), limit, async || {
            let found: InferenceCluster = self.cluster_scoped(name).await?;
            let conditions = found
                .status
                .as_ref()
                .map_or(&[][..], |status| status.conditions.as_slice());
            settled(
                conditions,
                "Ready",
                "True",
                found.metadata.generation,
                found.clone(),
            )
        })
        .await
    }

    /// Waits until a deployment's current generation is Ready with so many replicas.
    pub async fn deployment_ready(
        &self,
        namespace: &str,
        name: &str,
        replicas: i32,
        limit: Duration,
    ) -> Result<ModelDeployment> {
        let what = format!("ModelDeployment {namespace}/{name} is Ready with {replicas} replicas");
        self.until(&what, limit, async || {
            let found: ModelDeployment = self.namespaced(namespace, name).await?;
            let Some(status) = found.status.clone() else {
                bail!("it has no status yet")
            };
            let counts = [status.replicas, status.updated_replicas, status.ready_replicas];
            if counts != [replicas; 3] {
                bail!(
                    "replicas, updated and ready are {counts:?}; {}",
                    shown(&status.conditions)
                );
            }
            settled(
                &status.conditions,
                "Ready",
                "True",
                found.metadata.generation,
                found.clone(),
            )
        })
        .await
    }

    /// Has MiniLM served in the default namespace by so many replicas, whatever was before.
    pub async fn minilm(&self, package: &str, replicas: i32) -> Result<ModelDeployment> {
        self.install()?;
        self.cluster_ready("default", FIRST_START).await?;
        self.apply(&[self.models.deployment("default", MINILM, package, replicas)?])?;
        self.deployment_ready("default", MINILM, replicas, FIRST_START)
            .await
    }

    /// One object without a namespace.
    pub async fn cluster_scoped<K>(&self, name: &str) -> Result<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        Ok(Api::<K>::all(self.client.clone()).get(name).await?)
    }

    /// One object of a namespace.
    pub async fn namespaced<K>(&self, namespace: &str, name: &str) -> Result<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        Ok(Api::<K>::namespaced(self.client.clone(), namespace)
            .get(name)
            .await?)
    }

    /// A deployment's replicas.
    pub async fn replicas(&self, namespace: &str, deployment: &str) -> Result<Vec<ModelReplica>> {
        let of = ListParams::default().labels(&format!("{}={deployment}", labels::DEPLOYMENT));
        let replicas = Api::<ModelReplica>::namespaced(self.client.clone(), namespace);
        Ok(replicas.list(&of).await?.items)
    }

    /// Every GpuNode of an InferenceCluster, by name.
    pub async fn gpu_nodes(&self, cluster: &str) -> Result<Vec<GpuNode>> {
        let mut found = Api::<GpuNode>::all(self.client.clone())
            .list(&ListParams::default())
            .await?
            .items;
        found.retain(|node| node.spec.cluster == cluster);
        Ok(found)
    }

    /// What was said about an object: reasons and messages of its events.
    pub async fn events(&self, namespace: &str, kind: &str, name: &str) -> Result<Vec<String>> {
        let of =
            ListParams::default().fields(&format!("involvedObject.kind={kind},involvedObject.name={name}"));
        let events = Api::<Event>::namespaced(self.client.clone(), namespace)
            .list(&of)
            .await?;
        Ok(events
            .items
            .into_iter()
            .map(|event| {
                format!(
                    "{}: {}",
                    event.reason.unwrap_or_default(),
                    event.message.unwrap_or_default()
                )
            })
            .collect())
    }

    /// Asks again and again until there is an answer; the complaint holds what the last question said.
    pub async fn until<T, F>(&self, what: &str, limit: Duration, mut ask: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let end = Instant::now() + limit;
        loop {
            // No single question may outlast the wait.
            let answer = tokio::time::timeout(Duration::from_secs(20), ask()).await;
            let error = match answer {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) => error,
                Err(_) => anyhow::anyhow!("no answer within 20 s"),
            };
            if Instant::now() > end {
                return Err(error.context(format!("after {} s still not: {what}", limit.as_secs())));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Where the scheduler's REST port is reached from this machine.
    pub fn rest(&self) -> Result<String> {
        Ok(format!("http://{}:30080", self.provider.node_address("node1")?))
    }

    /// Where its gRPC port is.
    pub fn grpc(&self) -> Result<String> {
        Ok(format!("http://{}:30081", self.provider.node_address("node1")?))
    }

    /// How a client outside comes in: over one node, as through the address of a load balancer.
    pub fn entrance(&self) -> Result<Entrance> {
        Ok(Entrance {
            rest: self.rest()?,
            grpc: self.grpc()?,
        })
    }

    /// Pods and kinds as `kubectl get` shows them, for an error.
    pub fn picture(&self) -> String {
        let ours = "modeldeployments,modelreplicas,gpunodes";
        let looks: [&[&str]; 3] = [
            &["get", ours, "-A", "-o", "wide", "--request-timeout=10s"],
            &["get", "pods", "-n", SYSTEM, "-o", "wide", "--request-timeout=10s"],
            &["get", "nodes", "--request-timeout=10s"],
        ];
        looks
            .map(|look| {
                let text = self.kubectl(look).unwrap_or_else(|error| format!("{error:#}"));
                format!("\n{}", text.trim_end())
            })
            .concat()
    }

    /// Writes what the cluster says of itself into a folder, for whoever looks for the reason of a failure.
    pub fn dump(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let write = |name: &str, arguments: &[&str]| {
            let text = self
                .kubectl(arguments)
                .unwrap_or_else(|error| format!("{error:#}"));
            std::fs::write(folder.join(name), text)
        };
        let ours = "modeldeployments,modelreplicas";
        write("all.txt", &["get", "all,events", "-A", "-o", "wide"])?;
        write("kinds.yaml", &["get", "inferenceclusters,gpunodes", "-o", "yaml"])?;
        write("models.yaml", &["get", ours, "-A", "-o", "yaml"])?;
        write(
            "devices.yaml",
            &["get", "resourceslices,resourceclaims", "-A", "-o", "yaml"],
        )?;
        write("describe.txt", &["describe", "pods", "-n", SYSTEM])?;
        let pods = self.kubectl(&["get", "pods", "-n", SYSTEM, "-o", "name"])?;
        for pod in pods.lines() {
            let name = pod.replace('/', "-");
            write(
                &format!("{name}.log"),
                &["logs", "-n", SYSTEM, pod, "--all-containers"],
            )?;
            write(
                &format!("{name}-before.log"),
                &["logs", "-n", SYSTEM, pod, "--all-containers", "--previous"],
            )?;
        }
        Ok(())
    }

    /// Where dumps go.
    pub fn logs(&self) -> PathBuf {
        self.tools.target.join("logs")
    }
}

/// `helm upgrade --install` with the values of the stories.
pub fn install(tools: &Tools, kubeconfig: &Path) -> Result<()> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    output(&[
        &tools.program("helm"),
        "--kubeconfig",
        &kubeconfig.to_string_lossy(),
        "upgrade",
        "--install",
        "afterglow",
        &text(tools.root.join("charts/afterglow")),
        "--namespace",
        SYSTEM,
        "--create-namespace",
        "--values",
        &text(tools.root.join("e2e/values.yaml")),
        // The nodes are namespaces of this machine: its folders are theirs, unless they are bound over.
        "--set",
        &format!(
            "cluster.spec.agent.modelPath={}",
            text(tools.target.join("models"))
        ),
        "--wait",
        "--timeout=180s",
    ])
    .map(drop)
    .context("helm upgrade --install")
}

/// The object, once its condition is what is wanted and speaks of this generation.
fn settled<K>(
    conditions: &[Condition],
    type_: &str,
    status: &str,
    generation: Option<i64>,
    object: K,
) -> Result<K> {
    let Some(condition) = conditions.iter().find(|condition| condition.type_ == type_) else {
        bail!("it has no condition {type_}; {}", shown(conditions))
    };
    if condition.status != status || condition.observed_generation < generation {
        bail!("{}", shown(conditions));
    }
    Ok(object)
}

/// Conditions in one line.
pub fn shown(conditions: &[Condition]) -> String {
    conditions
        .iter()
        .map(|condition| {
            format!(
                "{}={} ({}: {})",
                condition.type_, condition.status, condition.reason, condition.message
            )
        })
        .collect::<Vec<_>>()
        .join(", ")
}
