//! Lets go of replicas whose agent cannot: its finalizer is removed where the agent is dead or its node gone.
//!
//! By itself, and not a part of a deployment's reconcile: the deployment may be gone already.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use afterglow_crds::{ModelReplica, labels};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use tokio::sync::Notify;

use crate::call::{self, call_opt};
use crate::deployment;
use crate::liveness::Judgement;
use crate::operator::Context;

/// Looks when something has changed, and from time to time anyway.
const RESYNC: Duration = Duration::from_secs(15);

/// Sweeps for ever.
pub(crate) async fn run(context: Arc<Context>, changed: Arc<Notify>) {
    loop {
        for replica in abandoned(&context) {
            match release(&context, &replica).await {
                Ok(()) => {}
                // It has changed since; the next look judges it anew.
                Err(error) if error.code() == Some(409) => {}
                Err(error) => {
                    tracing::warn!(%error, "a replica of a dead node could not be let go; it is tried again");
                }
            }
        }
        let _ = tokio::time::timeout(RESYNC, changed.notified()).await;
    }
}

fn abandoned(context: &Context) -> Vec<ModelReplica> {
    let judgement = context.liveness.now();
    let nodes: BTreeSet<String> = context
        .world
        .gpu_nodes
        .state()
        .iter()
        .map(|node| node.name_any())
        .collect();
    context
        .world
        .replicas
        .state()
        .iter()
        .filter_map(|replica| replica.0.as_ref().ok())
        // Another operator's agents have their leases elsewhere.
        .filter(|replica| context.world.works_for(&replica.spec.cluster))
        .filter(|replica| is_abandoned(replica, &nodes, &judgement))
        .cloned()
        .collect()
}

/// Being deleted, held by the agent's finalizer, and no agent to remove it. `nodes` are those that have a `GpuNode`.
pub fn is_abandoned(replica: &ModelReplica, nodes: &BTreeSet<String>, judgement: &Judgement) -> bool {
    let node = &replica.spec.node_name;
    replica.metadata.deletion_timestamp.is_some()
        && replica
            .finalizers()
            .iter()
            .any(|name| name == labels::REPLICA_FINALIZER)
        && (judgement.dead.contains(node) || (!nodes.contains(node) && !judgement.alive.contains(node)))
}

async fn release(context: &Context, replica: &ModelReplica) -> Result<(), call::Error> {
    let namespace = replica.namespace().unwrap_or_default();
    let name = replica.name_any();
    let kept: Vec<&String> = replica
        .finalizers()
        .iter()
        .filter(|finalizer| *finalizer != labels::REPLICA_FINALIZER)
        .collect();
    if deployment::is_unseen(context, &replica.spec.cluster).await? {
        // It may be another installation's, whose agents have their leases elsewhere and are not dead at all.
        return Ok(());
    }
    // With the resourceVersion: nobody else's finalizer is lost.
    let patch = Patch::Merge(serde_json::json!({
        "metadata": { "resourceVersion": replica.resource_version(), "finalizers": kept }
    }));
    let api: Api<ModelReplica> = Api::namespaced(context.client.clone(), &namespace);
    let params = PatchParams {
        field_manager: Some(labels::OPERATOR_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let write = api.patch(&name, &params, &patch);
    call_opt(
        &context.metrics,
        "patch",
        format!("ModelReplica {namespace}/{name}"),
        write,
    )
    .await?;
    context.metrics.wrote("ModelReplica", "patch");
    tracing::info!(
        namespace,
        name,
        node = replica.spec.node_name,
        "the node's agent is dead or gone: its replica was let go"
    );
    Ok(())
}
