//! `InferenceCluster`: the objects that it needs, and how it is.
//!
//! Steps: [`gather`](gather::gather) → [`check`](check::check) → [`plan`](plan::plan) → [`apply`](apply::apply) →
//! [`report`](report::report).

mod apply;
pub(crate) mod build;
mod check;
pub(crate) mod claim;
pub(crate) mod contest;
mod difference;
mod gather;
mod plan;
mod report;
pub(crate) use report::AGENTS_STARTING;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use afterglow_crds::InferenceCluster;
use kube::ResourceExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;

use self::claim::Claim;
use self::gather::Facts;
use crate::call;
use crate::operator::Context;

/// Everything is looked at again after this long, whether anything was heard or not.
const RESYNC: Duration = Duration::from_mins(5);

/// The step that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The object itself cannot be read.
    #[error("cannot read InferenceCluster: {0}")]
    Unreadable(String),
    /// An object could not be made, changed or deleted.
    #[error("cannot apply the plan: {0}")]
    Apply(#[source] apply::Error),
    /// The status could not be written.
    #[error("cannot report: {0}")]
    Report(#[source] call::Error),
}

impl Error {
    /// For the metric.
    pub(crate) fn step(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Apply(_) => "apply",
            Self::Report(_) => "report",
        }
    }

    /// How long the API server asks to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unreadable(_) => None,
            Self::Apply(error) => error.retry_after(),
            Self::Report(error) => error.retry_after(),
        }
    }
}

/// One turn for one cluster.
#[tracing::instrument(level = "debug", skip_all, fields(
    otel.kind = "consumer",
    kind = "InferenceCluster",
    object = %cluster.name_any(),
))]
pub(crate) async fn reconcile(
    cluster: Arc<DeserializeGuard<InferenceCluster>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let cluster = match &cluster.0 {
        Ok(cluster) => cluster,
        Err(invalid) => return Err(Error::Unreadable(invalid.error.clone())),
    };
    if let Claim::Elsewhere(namespace) = context.world.claim(cluster) {
        leave_alone(&context, cluster, &namespace).await;
        return Ok(Action::await_change());
    }
    // gather: reads the stores
    let facts = gather::gather(&context, cluster);
    // check, plan: pure
    let problems = check::check(&facts);
    let plan = plan::plan(&facts, &context.options);
    // apply: writes what the cluster is made of
    let (applied, failed) = apply::apply(&context, &facts, plan).await;
    // report: writes the status, if it differs
    if !applied.is_finished {
        report::report(&context, &facts, &applied, &problems)
            .await
            .map_err(Error::Report)?;
    }
    match failed {
        Some(error) => Err(Error::Apply(error)),
        None => Ok(Action::requeue(next_look(&facts))),
    }
}

/// Nobody tells when something may be put back again, nor when a contest is over.
fn next_look(facts: &Facts) -> Duration {
    let on = facts.contests.values().filter(|contest| contest.is_on());
    let next = on.map(|contest| {
        let at = if facts.now < contest.due() {
            contest.due()
        } else {
            contest.end()
        };
        at.duration_since(facts.now)
    });
    next.fold(RESYNC, Duration::min)
}

/// Tells of a cluster that another operator works for, once in a term.
async fn leave_alone(context: &Context, cluster: &InferenceCluster, namespace: &str) {
    let name = cluster.name_any();
    let is_news = context
        .left_alone
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(format!("{namespace}/{name}"));
    if is_news {
        let note = format!(
            "The operator in namespace {} leaves it to the one in namespace {namespace}. Should that one be gone for good, then remove \
             the claim: kubectl annotate inferencecluster {name} {}-",
            context.options.namespace,
            claim::OPERATED_FROM
        );
        context
            .tell(cluster, EventType::Normal, "OperatedElsewhere", "Claim", note)
            .await;
    }
}
