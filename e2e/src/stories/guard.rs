//! What our accounts may do, and what they may not: an agent stays on its node, and nobody holds a right that nobody uses.

mod rights;

use afterglow_crds::{GpuNode, ModelReplica, labels};
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::world::{FIRST_START, MINILM, SOON, SYSTEM, World};

pub(super) use rights::every_verb_that_is_granted_is_used;

/// The account of the agents of the InferenceCluster `default`.
const ACCOUNT: &str = "afterglow-agent-default";

pub(super) async fn the_agent_of_one_node_writes_nothing_of_another(world: &mut World) -> Result<()> {
    world.minilm("minilm-1", 3).await?;
    let warnings = world.kubectl(&[
        "get",
        "validatingadmissionpolicies",
        "--selector=app.kubernetes.io/instance=afterglow",
        "--output=jsonpath={.items[*].status.typeChecking.expressionWarnings}",
    ])?;
    ensure!(
        warnings.is_empty(),
        "the policies do not fit the kinds: {warnings}"
    );
    let own = Belongings::of(world, "node1").await?;
    let foreign = Belongings::of(world, "node2").await?;

    let agent = client(world, &token(world, Some("node1")).await?).await?;
    for write in own.writes() {
        write
            .attempt(&agent)
            .await
            .with_context(|| format!("the agent of node1: {}", write.what))?;
    }
    for write in foreign.writes() {
        refused(&write, &agent, "the agent of node node1 may not write").await?;
    }
    let unbound = client(world, &token(world, None).await?).await?;
    for write in own.writes().iter().chain(&foreign.writes()) {
        refused(write, &unbound, "this token names no node").await?;
    }
    anstream::println!(
        "    {} kinds of writes: its own node's are taken, another's refused, and all without a node's token",
        own.writes().len()
    );
    Ok(())
}

/// What an agent writes of its node. The replica is one that is placed there.
struct Belongings {
    node: &'static str,
    replica: (String, String),
}

/// A change that an agent makes, tried without being kept.
struct Write {
    what: String,
    api: ApiResource,
    namespace: Option<String>,
    name: String,
    status: bool,
    change: Value,
}

impl Belongings {
    async fn of(world: &World, node: &'static str) -> Result<Self> {
        let here = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let found = Api::<ModelReplica>::all(world.client.clone()).list(&here).await?;
        let metadata = found
            .items
            .into_iter()
            .next()
            .with_context(|| format!("{node} has no replica"))?
            .metadata;
        let replica = metadata
            .namespace
            .zip(metadata.name)
            .context("a replica without a name")?;
        Ok(Self { node, replica })
    }

    fn writes(&self) -> Vec<Write> {
        let node = self.node;
        let (namespace, replica) = &self.replica;
        let write = |what: &str, api: ApiResource, name: &str, status: bool, change: Value| Write {
            what: format!("{what} of {node}"),
            api,
            namespace: None,
            name: name.to_owned(),
            status,
            change,
        };
        let within = |namespace: &str, write: Write| Write {
            namespace: Some(namespace.to_owned()),
            ..write
        };
        let (gpu_node, replicas) = (
            ApiResource::erase::<GpuNode>(&()),
            ApiResource::erase::<ModelReplica>(&()),
        );
        let slice = ApiResource::erase::<ResourceSlice>(&());
        let labelled = json!({"metadata": {"labels": {labels::CLUSTER: "default"}}});
        let finalizers = json!({"metadata": {"finalizers": []}});
        let counted = json!({"metadata": {"labels": {labels::NODE_DEVICES: "7"}}});
        let held = json!({"spec": {"holderIdentity": "somebody"}});
        let said = json!({"status": {"summary": "nothing"}});
        vec![
            write("the GpuNode", gpu_node.clone(), node, false, labelled.clone()),
            write("the GpuNode's status", gpu_node, node, true, said),
            within(
                namespace,
                write(
                    "a replica's finalizers",
                    replicas.clone(),
                    replica,
                    false,
                    finalizers,
                ),
            ),
            within(
                namespace,
                write(
                    "a replica's status",
                    replicas,
                    replica,
                    true,
                    json!({"status": {}}),
                ),
            ),
            write(
                "the labels",
                ApiResource::erase::<Node>(&()),
                node,
                false,
                counted,
            ),
            write("the ResourceSlice", slice, &labels::slice(node), false, labelled),
            within(
                SYSTEM,
                write(
                    "the Lease",
                    ApiResource::erase::<Lease>(&()),
                    &labels::lease(node),
                    false,
                    held,
                ),
            ),
        ]
    }
}

impl Write {
    async fn attempt(&self, client: &Client) -> kube::Result<DynamicObject> {
        let objects: Api<DynamicObject> = match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.api),
            None => Api::all_with(client.clone(), &self.api),
        };
        // Judged as any other write, and not kept, whatever the verdict.
        let dry = PatchParams {
            dry_run: true,
            field_manager: Some(labels::AGENT_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let change = Patch::Merge(&self.change);
        if self.status {
            objects.patch_status(&self.name, &dry, &change).await
        } else {
            objects.patch(&self.name, &dry, &change).await
        }
    }
}

async fn refused(write: &Write, client: &Client, because: &str) -> Result<()> {
    match write.attempt(client).await {
        Ok(_) => bail!("{} was taken; expected: {because}", write.what),
        Err(kube::Error::Api(status)) => {
            ensure!(
                status.code == 403 && status.message.contains(because),
                "{}: {} {}, expected: {because}",
                write.what,
                status.code,
                status.message
            );
            Ok(())
        }
        Err(error) => Err(error).with_context(|| write.what.clone()),
    }
}

/// A token of the agents' account: that of the agent on a node, as the kubelet asks for it, or one that names no pod.
async fn token(world: &World, node: Option<&str>) -> Result<String> {
    let bound = match node {
        Some(node) => {
            let of = ListParams::default()
                .labels(&format!(
                    "app.kubernetes.io/component=agent,{}=default",
                    labels::CLUSTER
                ))
                .fields(&format!("spec.nodeName={node}"));
            let pods = Api::<Pod>::namespaced(world.client.clone(), SYSTEM)
                .list(&of)
                .await?;
            let pod = pods
                .items
                .into_iter()
                .next()
                .with_context(|| format!("{node} has no agent"))?
                .metadata;
            json!({"kind": "Pod", "apiVersion": "v1", "name": pod.name, "uid": pod.uid})
        }
        None => Value::Null,
    };
    let request: TokenRequest =
        serde_json::from_value(json!({"spec": {"audiences": [], "boundObjectRef": bound}}))?;
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), SYSTEM);
    let answer = accounts
        .create_token_request(ACCOUNT, &PostParams::default(), &request)
        .await
        .with_context(|| format!("ask for a token of {ACCOUNT}"))?;
    Ok(answer.status.context("the answer has no token")?.token)
}

/// A client that is nobody but the token's account.
async fn client(world: &World, token: &str) -> Result<Client> {
    let path = world.provider.kubeconfig();
    let file = Kubeconfig::read_from(&path).with_context(|| format!("read {}", path.display()))?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("understand {}", path.display()))?;
    config.auth_info = serde_json::from_value(json!({"token": token}))?;
    Client::try_from(config).context("make a client with an agent's token")
}

pub(super) async fn an_agent_puts_right_what_was_undone_and_counts_what_it_says_again(
    world: &mut World,
) -> Result<()> {
    world.minilm("minilm-1", 1).await?;
    let busy: Vec<String> = world
        .replicas("default", MINILM)
        .await?
        .into_iter()
        .map(|replica| replica.spec.node_name)
        .collect();
    let mut free = world.gpu_nodes("default").await?;
    free.retain(|node| {
        !node
            .metadata
            .name
            .as_ref()
            .is_some_and(|name| busy.contains(name))
    });
    let node = free
        .into_iter()
        .find_map(|node| node.metadata.name)
        .context("every node serves a model")?;

    let gone = format!("{}-", labels::CLUSTER);
    world.kubectl(&["label", "gpunode", &node, &gone])?;
    world
        .until(&format!("GpuNode {node} is labelled again"), SOON, async || {
            let found: GpuNode = world.cluster_scoped(&node).await?;
            let labels = found.metadata.labels.unwrap_or_default();
            ensure!(labels.contains_key(labels::CLUSTER), "its labels are {labels:?}");
            Ok(())
        })
        .await?;

    // A device that comes back is told of; the second time the first event is counted on.
    for lent in [true, false, true, false] {
        lend(world, &node, lent).await?;
    }
    world
        .until("the event of its return is counted", SOON, async || {
            let events = Api::<Event>::all(world.client.clone())
                .list(&ListParams::default())
                .await?;
            let counted = events.items.iter().any(|event| {
                event.reason.as_deref() == Some("DeviceOffered")
                    && event.reporting_instance.as_deref() == Some(node.as_str())
                    && event.series.as_ref().is_some_and(|series| series.count > 1)
            });
            ensure!(counted, "no event DeviceOffered of {node} is a series");
            Ok(())
        })
        .await?;
    world.cluster_ready("default", FIRST_START).await?;
    Ok(())
}

async fn lend(world: &World, node: &str, lent: bool) -> Result<()> {
    let found: GpuNode = world.cluster_scoped(node).await?;
    let status = found.status.context("its GpuNode has no status")?;
    let devices = status.devices.iter().filter(|_| lent);
    let names: Vec<&str> = devices.map(|device| device.name.as_str()).collect();
    let patch = json!({"spec": {"lend": names}}).to_string();
    world.kubectl(&["patch", "gpunode", node, "--type=merge", "-p", &patch])?;
    let wanted = if lent { 0 } else { status.devices.len() };
    world
        .until(&format!("{node} offers {wanted} devices"), SOON, async || {
            let found: GpuNode = world.cluster_scoped(node).await?;
            let offered = found.status.map(|status| status.offered).unwrap_or_default();
            ensure!(usize::try_from(offered) == Ok(wanted), "it offers {offered}");
            Ok(())
        })
        .await
}
