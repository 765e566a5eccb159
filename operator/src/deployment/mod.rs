//! `ModelDeployment`: which replicas it gets, on which devices, and what became of them.
//!
//! Steps: [`gather`](gather::gather) → [`check`](check::check) → [`plan`](plan::plan) → [`apply`](apply::apply) →
//! [`report`](report::report).

mod apply;
mod check;
mod failure;
#[cfg(test)]
pub(crate) mod fixtures;
mod fleet;
mod gather;
mod plan;
mod progress;
mod report;
mod revision;
#[cfg(test)]
mod rollouts;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod turns;
mod view;

pub use check::{Refusal, check};
pub use gather::{Facts, Machine, Rival, Seen, Unreadable, facts};
pub use plan::{Applied, Plan, Wanted, plan};
pub use progress::Progress;
pub use report::status;
pub use revision::Revision;
pub(crate) use revision::short_hash;

use std::sync::Arc;
use std::time::Duration;

use afterglow_crds::{InferenceCluster, ModelDeployment};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};

use crate::call;
use crate::operator::Context;

/// Everything is looked at again after this long, whether anything was heard or not.
const RESYNC: Duration = Duration::from_mins(5);

/// When a cluster that exists and was not shown yet is looked for again, should nothing be heard.
const UNSEEN: Duration = Duration::from_secs(5);
/// So much later what is given up then has been given up.
const MARGIN: Duration = Duration::from_millis(100);

/// The step that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The object itself cannot be read.
    #[error("cannot read ModelDeployment: {0}")]
    Unreadable(String),
    /// Whether its cluster exists could not be asked.
    #[error("cannot look for its cluster: {0}")]
    Look(#[source] call::Error),
    /// A replica could not be made or deleted.
    #[error("cannot apply the plan: {0}")]
    Apply(#[source] call::Error),
    /// The status could not be written.
    #[error("cannot report: {0}")]
    Report(#[source] call::Error),
}

impl Error {
    /// For the metric.
    pub(crate) fn step(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Look(_) => "look",
            Self::Apply(_) => "apply",
            Self::Report(_) => "report",
        }
    }

    /// How long the API server asks to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unreadable(_) => None,
            Self::Look(error) | Self::Apply(error) | Self::Report(error) => error.retry_after(),
        }
    }
}

/// One turn for one deployment.
#[tracing::instrument(level = "debug", skip_all, fields(
    otel.kind = "consumer",
    kind = "ModelDeployment",
    object = %deployment.name_any(),
))]
pub(crate) async fn reconcile(
    deployment: Arc<DeserializeGuard<ModelDeployment>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let deployment = match &deployment.0 {
        Ok(deployment) => deployment,
        Err(invalid) => return Err(Error::Unreadable(invalid.error.clone())),
    };
    if deployment.metadata.deletion_timestamp.is_some() {
        // Its replicas go with it: they are owned. What holds them back is the agents', or `sweep`'s.
        return Ok(Action::await_change());
    }
    if !context.world.works_for(&deployment.spec.cluster) {
        // Its cluster is another operator's, or not claimed yet: a change of the cluster asks again.
        return Ok(Action::await_change());
    }
    if is_unseen(&context, &deployment.spec.cluster)
        .await
        .map_err(Error::Look)?
    {
        // Its cluster's own events come, and ask again.
        return Ok(Action::requeue(UNSEEN));
    }
    if gather::namespace_is_leaving(&context, deployment) {
        // Nothing new may be made there, and what is there goes with it.
        return Ok(Action::await_change());
    }
    // gather, check, plan: reads the stores and calls nobody
    let (facts, plan) = plan_alone(&context, deployment);
    // apply: writes replicas
    let (applied, failed) = apply::apply(&context, &facts, plan).await;
    // report: writes the status, if it differs
    let again = report::report(&context, &facts, &applied)
        .await
        .map_err(Error::Report)?;
    match failed {
        Some(error) => Err(Error::Apply(error)),
        None => Ok(Action::requeue(next_look(&context, deployment, again))),
    }
}

/// Whether a cluster exists that no watch has shown yet: each kind has a watch of its own, and after an outage that of the
/// deployments may be the first to come back. What a cluster of another installation serves would be taken away for it.
pub(crate) async fn is_unseen(context: &Context, cluster: &str) -> Result<bool, call::Error> {
    if context.world.clusters.get(&ObjectRef::new(cluster)).is_some() {
        return Ok(false);
    }
    // Its head only: also of one that cannot be read.
    let clusters: Api<InferenceCluster> = Api::all(context.client.clone());
    let object = format!("InferenceCluster {cluster}");
    let get = clusters.get_metadata(cluster);
    let found = call::call_opt(&context.metrics, "get", object, get).await?;
    Ok(found.is_some())
}

/// Gathers and plans while nobody else does: two plans made side by side would give the same memory away twice.
fn plan_alone(context: &Context, deployment: &ModelDeployment) -> (Facts, Plan<Wanted>) {
    let _one_at_a_time = context
        .planning
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let facts = gather::gather(context, deployment);
    let plan = plan(&facts, check(&facts));
    context.expectations.expect(&plan.create);
    (facts, plan)
}

/// When to look again, whether anything is heard or not.
fn next_look(context: &Context, deployment: &ModelDeployment, again: Option<Duration>) -> Duration {
    let wait = again.unwrap_or(RESYNC).min(RESYNC);
    // A replica that was asked for and never made holds its place until then, whatever turns there are in between.
    match context.expectations.gives_up(&deployment.spec.cluster) {
        Some(left) => wait.min(left + MARGIN),
        None => wait,
    }
}

/// The name that clients use.
pub(crate) fn model_name(deployment: &ModelDeployment) -> String {
    deployment
        .spec
        .model
        .name
        .clone()
        .unwrap_or_else(|| deployment.name_any())
}
