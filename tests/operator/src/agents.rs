//! Stand-ins for the agents of a world's nodes, and for the controllers that would start agents and schedulers: straight to the
//! API server, past the proxy.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use afterglow_crds::{GpuNode, ModelReplica, labels};
use anyhow::{Context as _, Result};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Twice as often as a real agent: what is tested here is not how slow one may be.
const RENEW: Duration = Duration::from_secs(5);

/// Where the agents are.
#[derive(Debug, Clone)]
pub struct Place {
    /// The operator's namespace, where leases, agents and schedulers lie.
    pub namespace: String,
    /// The cluster.
    pub cluster: String,
    /// The nodes; each has one card, `gpu-0`.
    pub nodes: Vec<String>,
}

/// The agents of a world; they end when this is dropped.
#[derive(Debug)]
pub struct Agents {
    silent: Silent,
    _tasks: JoinSet<()>,
}

/// Nodes whose agents do nothing any more.
type Silent = Arc<Mutex<BTreeSet<String>>>;

impl Agents {
    /// Makes the nodes and what agents write of them, and starts the agents.
    pub async fn start(client: &Client, place: Place) -> Result<Self> {
        for node in &place.nodes {
            make(client, &place, node)
                .await
                .with_context(|| format!("make the node {node}"))?;
        }
        let silent = Silent::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(renew(client.clone(), place.clone(), silent.clone()));
        tasks.spawn(host(client.clone(), place.clone(), silent.clone()));
        tasks.spawn(run_agents(client.clone(), place.clone()));
        tasks.spawn(run_schedulers(client.clone(), place));
        Ok(Self {
            silent,
            _tasks: tasks,
        })
    }

    /// From now on a node's agent does nothing: its machine has lost its power.
    pub fn silence(&self, node: &str) {
        self.lock().insert(node.to_owned());
    }

    /// It is back.
    pub fn wake(&self, node: &str) {
        self.lock().remove(node);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a node's agent has written when it is up.
async fn make(client: &Client, place: &Place, name: &str) -> Result<()> {
    let once = PostParams::default();
    let nodes: Api<Node> = Api::all(client.clone());
    let node: Node = serde_json::from_value(json!({ "metadata": { "name": name, "labels": {
        "afterglow.test/world": place.cluster, labels::CLUSTER: place.cluster, labels::NODE_DEVICES: "1",
    }}}))?;
    nodes.create(&once, &node).await?;

    let gpu_nodes: Api<GpuNode> = Api::all(client.clone());
    let mut gpu_node = GpuNode::new(name, afterglow_crds::gpu_node::GpuNodeSpec::default());
    gpu_node.spec.cluster.clone_from(&place.cluster);
    gpu_nodes.create(&once, &gpu_node).await?;
    offer(client, name, true).await?;

    let leases: Api<Lease> = Api::namespaced(client.clone(), &place.namespace);
    let lease: Lease =
        serde_json::from_value(json!({ "metadata": { "name": labels::lease(name) }, "spec": {
            "holderIdentity": name, "leaseDurationSeconds": 30, "renewTime": MicroTime(Timestamp::now()),
        }}))?;
    leases.create(&once, &lease).await?;
    Ok(())
}

/// Says whether a node's card is offered.
pub async fn offer(client: &Client, node: &str, offered: bool) -> Result<()> {
    let gpu_nodes: Api<GpuNode> = Api::all(client.clone());
    let status = json!({ "apiVersion": GpuNode::api_version(&()), "kind": GpuNode::kind(&()), "status": {
        "agentVersion": "test",
        "offered": i32::from(offered),
        "devices": [{
            "name": "gpu-0", "type": "GPU", "family": "Polaris", "productName": "RX 580", "memory": "8Gi",
            "offered": offered, "notOfferedBecause": if offered { "" } else { "it is too hot" },
            "selfTest": { "result": "Passed" },
        }],
        "conditions": [condition(true, "Ready", "It works.")],
    }});
    apply_status(&gpu_nodes, node, &status).await
}

/// Renews the leases of the nodes whose agents live.
async fn renew(client: Client, place: Place, silent: Silent) {
    let leases: Api<Lease> = Api::namespaced(client, &place.namespace);
    let mut tick = tokio::time::interval(RENEW);
    loop {
        tick.tick().await;
        for node in &place.nodes {
            if silent
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(node)
            {
                continue;
            }
            let spec = json!({ "spec": { "renewTime": MicroTime(Timestamp::now()) } });
            // A lease that was taken away is not made again: whoever takes it away has sent the agent home.
            let _ = leases
                .patch(
                    &labels::lease(node),
                    &PatchParams::default(),
                    &Patch::Merge(&spec),
                )
                .await;
        }
    }
}

/// Serves every replica, and lets every one go that is to go.
async fn host(client: Client, place: Place, silent: Silent) {
    let all: Api<ModelReplica> = Api::all(client.clone());
    let config = watcher::Config::default().labels(&format!("{}={}", labels::CLUSTER, place.cluster));
    let mut seen = std::pin::pin!(objects(all, config));
    // Of a silent node's: looked at again when it may be back.
    let mut waiting: Vec<ModelReplica> = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        let replicas = tokio::select! {
            Some(replica) = seen.next() => vec![replica],
            _ = tick.tick() => std::mem::take(&mut waiting),
        };
        for replica in replicas {
            let is_silent = silent
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&replica.spec.node_name);
            if is_silent || serve(&client, &replica).await.is_err() {
                waiting.retain(|other| other.uid() != replica.uid());
                waiting.push(replica);
            }
        }
    }
}

async fn serve(client: &Client, replica: &ModelReplica) -> Result<()> {
    let name = replica.name_any();
    let api: Api<ModelReplica> = Api::namespaced(client.clone(), &replica.namespace().unwrap_or_default());
    if replica.metadata.deletion_timestamp.is_some() {
        let kept: Vec<&String> = replica
            .finalizers()
            .iter()
            .filter(|finalizer| *finalizer != labels::REPLICA_FINALIZER)
            .collect();
        if kept.len() < replica.finalizers().len() {
            let patch = json!({ "metadata": { "finalizers": kept } });
            ignore_gone(
                api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
                    .await,
            )?;
        }
        return Ok(());
    }
    let is_ready = replica
        .status
        .as_ref()
        .is_some_and(|status| afterglow_crds::condition::is_true(&status.conditions, "Ready"));
    if is_ready {
        return Ok(());
    }
    let status = json!({ "apiVersion": ModelReplica::api_version(&()), "kind": ModelReplica::kind(&()), "status": {
        "conditions": [condition(true, "Ready", "It serves.")],
    }});
    let params = PatchParams::apply(labels::AGENT_MANAGER).force();
    ignore_gone(api.patch_status(&name, &params, &Patch::Apply(&status)).await)
}

fn ignore_gone<T>(result: kube::Result<T>) -> Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// The controller of `DaemonSet`s, as far as anybody sees: all agents run at once.
async fn run_agents(client: Client, place: Place) {
    let api: Api<DaemonSet> = Api::namespaced(client, &place.namespace);
    let count = place.nodes.len();
    let mut seen = std::pin::pin!(objects(api.clone(), watcher::Config::default()));
    while let Some(set) = seen.next().await {
        let generation = set.metadata.generation;
        let is_told = set.status.as_ref().and_then(|status| status.observed_generation) == generation;
        if set.metadata.deletion_timestamp.is_none() && !is_told {
            let status = json!({ "status": {
                "observedGeneration": generation, "desiredNumberScheduled": count, "currentNumberScheduled": count,
                "updatedNumberScheduled": count, "numberReady": count, "numberAvailable": count, "numberMisscheduled": 0,
            }});
            let _ = api
                .patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(&status))
                .await;
        }
    }
}

/// The controller of `Deployment`s, in the same way.
async fn run_schedulers(client: Client, place: Place) {
    let api: Api<Deployment> = Api::namespaced(client, &place.namespace);
    let mut seen = std::pin::pin!(objects(api.clone(), watcher::Config::default()));
    while let Some(deployment) = seen.next().await {
        let generation = deployment.metadata.generation;
        let count = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1);
        let is_told = deployment
            .status
            .as_ref()
            .and_then(|status| status.observed_generation)
            == generation;
        if deployment.metadata.deletion_timestamp.is_none() && !is_told {
            let status = json!({ "status": {
                "observedGeneration": generation, "replicas": count, "updatedReplicas": count, "readyReplicas": count,
                "availableReplicas": count,
            }});
            let _ = api
                .patch_status(
                    &deployment.name_any(),
                    &PatchParams::default(),
                    &Patch::Merge(&status),
                )
                .await;
        }
    }
}

fn condition(status: bool, reason: &str, message: &str) -> Value {
    json!({
        "type": "Ready", "status": if status { "True" } else { "False" }, "reason": reason, "message": message,
        "lastTransitionTime": Timestamp::now().to_string(),
    })
}

async fn apply_status<K>(api: &Api<K>, name: &str, status: &Value) -> Result<()>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let params = PatchParams::apply(labels::AGENT_MANAGER).force();
    api.patch_status(name, &params, &Patch::Apply(status))
        .await
        .with_context(|| format!("write the status of {name}"))?;
    Ok(())
}

/// Every object as it is and as it becomes.
fn objects<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = K>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    watcher(api, config)
        .default_backoff()
        .applied_objects()
        .filter_map(|object| std::future::ready(object.ok()))
}
