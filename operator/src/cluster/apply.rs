//! Carries a plan out: server-side apply, one field manager, only on objects that are ours.

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use afterglow_crds::{GpuNode, InferenceCluster, labels};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt as _};
use serde_json::{Map, Value, json};

use super::build::{Child, Kind, MANAGED_BY};
use super::claim::OPERATED_FROM;
use super::contest::last_writer;
use super::difference::{is_current, stamp, stamped, was_applied};
use super::gather::Facts;
use super::plan::{Applied, Plan, Unlabel, Wanted};
use crate::call::{self, call, call_opt};
use crate::operator::Context;

/// Why an object is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server refused.
    #[error(transparent)]
    Call(#[from] call::Error),
    /// Somebody else's object has the name.
    #[error(
        "{0} exists already and was not made by this operator for this InferenceCluster: delete or rename it"
    )]
    Foreign(String),
}

impl Error {
    /// How long the API server asks to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Call(error) => error.retry_after(),
            Self::Foreign(_) => None,
        }
    }
}

/// Does what can be done; the first error comes back beside it.
#[tracing::instrument(level = "debug", skip_all)]
pub(crate) async fn apply(
    context: &Context,
    facts: &Facts,
    plan: Plan<Wanted>,
) -> (Plan<Applied>, Option<Error>) {
    let Plan {
        add_finalizer,
        apply,
        delete,
        forget,
        unlabel,
        waits_for,
        mut is_finished,
        mut errors,
        mut tenant_errors,
        stage: _,
    } = plan;
    let mut first = None;
    let own = &context.options.namespace;
    let mut fail_in = |namespace: Option<&str>, error: Error| {
        // A conflict is no news for anybody: what was seen has changed since, and is judged anew.
        if !matches!(&error, Error::Call(error) if error.code() == Some(409)) {
            if namespace.is_none_or(|namespace| namespace == own) {
                errors.push(error.to_string());
            } else {
                tenant_errors.push(error.to_string());
            }
        }
        first.get_or_insert(error);
    };
    let mut may_go_on = true;
    if add_finalizer && let Err(error) = finalizer(context, &facts.cluster, true).await {
        // Without it, what is made now might stay for ever, and what is deleted might be another operator's.
        fail_in(None, error.into());
        may_go_on = false;
    }
    let (delete, forget, unlabel) = if may_go_on {
        (delete, forget, unlabel)
    } else {
        (Vec::new(), Vec::new(), Vec::new())
    };
    if may_go_on {
        for child in &apply {
            if let Err(error) = put(context, facts, child).await {
                fail_in(child.namespace.as_deref(), error);
            }
        }
    }
    for (kind, object) in &delete {
        if let Err(error) = remove(context, *kind, object).await {
            fail_in(object.namespace().as_deref(), error.into());
        }
    }
    for node in &forget {
        if let Err(error) = forget_node(context, node).await {
            fail_in(None, error.into());
        }
    }
    for left in &unlabel {
        if let Err(error) = take_off(context, left).await {
            fail_in(None, error.into());
        }
    }
    if is_finished {
        is_finished = first.is_none();
        if is_finished && let Err(error) = finalizer(context, &facts.cluster, false).await {
            errors.push(error.to_string());
            first = Some(error.into());
            is_finished = false;
        }
    }
    let applied = Plan {
        add_finalizer,
        apply,
        delete,
        forget,
        unlabel,
        waits_for,
        is_finished,
        errors,
        tenant_errors,
        stage: PhantomData,
    };
    (applied, first)
}

async fn finalizer(context: &Context, cluster: &InferenceCluster, wanted: bool) -> Result<(), call::Error> {
    let name = cluster.name_any();
    let mut finalizers: Vec<&str> = cluster
        .finalizers()
        .iter()
        .map(String::as_str)
        .filter(|finalizer| *finalizer != labels::CLUSTER_FINALIZER)
        .collect();
    if wanted {
        finalizers.push(labels::CLUSTER_FINALIZER);
    } else if finalizers.len() == cluster.finalizers().len() {
        return Ok(());
    }
    // With the resourceVersion: nobody else's finalizer is lost, and of two operators one gets the cluster.
    let mut metadata = json!({ "resourceVersion": cluster.resource_version(), "finalizers": finalizers });
    if wanted {
        metadata["annotations"] = json!({ OPERATED_FROM: context.options.namespace });
    }
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    let api: Api<InferenceCluster> = Api::all(context.client.clone());
    let params = PatchParams {
        field_manager: Some(labels::OPERATOR_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let write = api.patch(&name, &params, &patch);
    call_opt(
        &context.metrics,
        "patch",
        format!("InferenceCluster {name}"),
        write,
    )
    .await?;
    context.metrics.wrote("InferenceCluster", "patch");
    Ok(())
}

fn api(context: &Context, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = kind.resource();
    match namespace {
        Some(namespace) => Api::namespaced_with(context.client.clone(), namespace, &resource),
        None => Api::all_with(context.client.clone(), &resource),
    }
}

async fn put(context: &Context, facts: &Facts, child: &Child) -> Result<(), Error> {
    let api = api(context, child.kind, child.namespace.as_deref());
    let name = child.key();
    let known = facts.children.get(&name);
    let contest = facts.contests.get(&name);
    // It has been written just so before: the watch is behind, or somebody has changed it.
    let is_again = contest.is_some_and(|contest| contest.is_about(&stamp(child)))
        || known.is_some_and(|live| was_applied(live, child));
    let mut by = None;
    if known.is_none() || is_again {
        let found = call_opt(&context.metrics, "get", child.object(), api.get(&child.name)).await?;
        // The stores show only what is ours: an object of somebody else must not be taken over.
        if found.as_ref().is_some_and(|found| !is_ours(found, child)) {
            return Err(Error::Foreign(child.object()));
        }
        if found.as_ref().is_some_and(|found| is_current(found, child)) {
            return Ok(());
        }
        by = found.filter(|_| is_again).map(|found| last_writer(&found));
    }
    let params = PatchParams::apply(labels::OPERATOR_MANAGER).force();
    let body = Patch::Apply(stamped(child));
    let write = api.patch(&child.name, &params, &body);
    call(&context.metrics, "patch", child.object(), write).await?;
    context.metrics.wrote(&child.kind.resource().kind, "patch");
    tracing::info!(object = child.object(), by, "applied");
    if known.is_some() {
        remember(context, facts, child, by).await;
    }
    Ok(())
}

/// Remembers what was written, and tells of it where somebody would wonder.
async fn remember(context: &Context, facts: &Facts, child: &Child, by: Option<String>) {
    let is_put_back = by.is_some();
    let contest = context
        .contests
        .wrote(child.key(), &stamp(child), by, Instant::now());
    // From then on the status says so.
    if is_put_back && !contest.is_on() {
        let note = format!(
            "Put back {}, which {} had changed: it follows the InferenceCluster.",
            child.object(),
            contest.by
        );
        context
            .tell(&facts.cluster, EventType::Normal, "PutBack", "Apply", note)
            .await;
    }
}

fn is_ours(found: &DynamicObject, child: &Child) -> bool {
    let label = |key: &str| found.labels().get(key).map(String::as_str);
    label("app.kubernetes.io/managed-by") == Some(MANAGED_BY)
        && label(labels::CLUSTER) == child.body["metadata"]["labels"][labels::CLUSTER].as_str()
}

async fn remove(context: &Context, kind: Kind, object: &DynamicObject) -> Result<(), call::Error> {
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let name = object.name_any();
    let resource = kind.resource();
    let params = DeleteParams {
        // An object that was made again under the same name is judged anew.
        preconditions: Some(Preconditions {
            uid: object.uid(),
            resource_version: None,
        }),
        // It is gone when its pods are.
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    let api = api(context, kind, object.namespace().as_deref());
    let what = format!(
        "{} {}/{name}",
        resource.kind,
        object.namespace().unwrap_or_default()
    );
    let found = call_opt(&context.metrics, "delete", &what, api.delete(&name, &params)).await?;
    if found.is_some() {
        context.metrics.wrote(&resource.kind, "delete");
        tracing::info!(
            object = what,
            "deleted: the InferenceCluster does not need it any more"
        );
    }
    Ok(())
}

/// A node without an agent: what the agent wrote. Its `GpuNode` goes last: as long as it is there, the rest is tried again.
async fn forget_node(context: &Context, node: &GpuNode) -> Result<(), call::Error> {
    let name = node.name_any();
    let metrics = &context.metrics;
    let namespace = &context.options.namespace;

    let slices: Api<ResourceSlice> = Api::all(context.client.clone());
    let slice = labels::slice(&name);
    let params = DeleteParams::default();
    let delete = slices.delete(&slice, &params);
    call_opt(metrics, "delete", format!("ResourceSlice {slice}"), delete).await?;

    let leases: Api<Lease> = Api::namespaced(context.client.clone(), namespace);
    let lease = labels::lease(&name);
    let delete = leases.delete(&lease, &params);
    call_opt(metrics, "delete", format!("Lease {namespace}/{lease}"), delete).await?;

    let nodes: Api<GpuNode> = Api::all(context.client.clone());
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: node.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let delete = nodes.delete(&name, &params);
    let found = call_opt(metrics, "delete", format!("GpuNode {name}"), delete).await?;
    if found.is_some() {
        metrics.wrote("GpuNode", "delete");
    }
    tracing::info!(node = name, "forgotten: no agent is meant to run there");
    Ok(())
}

async fn take_off(context: &Context, left: &Unlabel) -> Result<(), call::Error> {
    let gone: Map<String, Value> = left
        .labels
        .iter()
        .map(|label| (label.clone(), Value::Null))
        .collect();
    let patch = Patch::Merge(json!({ "metadata": { "labels": gone } }));
    let params = PatchParams {
        field_manager: Some(labels::OPERATOR_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let nodes: Api<Node> = Api::all(context.client.clone());
    let write = nodes.patch_metadata(&left.node, &params, &patch);
    let found = call_opt(&context.metrics, "patch", format!("Node {}", left.node), write).await?;
    if found.is_some() {
        context.metrics.wrote("Node", "patch");
        tracing::info!(
            node = left.node,
            labels = left.labels.join(","),
            "taken off: no agent is meant to run there"
        );
    }
    Ok(())
}
