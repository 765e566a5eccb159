//! What became of a deployment: a status that is the same for the same facts, written only when it differs.

use std::time::Duration;

use afterglow_crds::condition::{self, DEGRADED, PROGRESSING, READY};
use afterglow_crds::model_deployment::ModelDeploymentStatus;
use afterglow_crds::{ModelDeployment, ModelReplica, labels};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::EventType;
use kube::{Api, Resource as _, ResourceExt as _};

use super::failure::{self, State};
use super::fleet;
use super::gather::Facts;
use super::plan::{Applied, Plan};
use crate::call::{self, call_opt};
use crate::cluster::AGENTS_STARTING;
use crate::operator::Context;
use crate::queue::Key;

/// Writes the status and tells of what has changed; `Some`: look again after that long, even if nothing happens.
#[tracing::instrument(level = "debug", skip_all)]
pub(crate) async fn report(
    context: &Context,
    facts: &Facts,
    plan: &Plan<Applied>,
) -> Result<Option<Duration>, call::Error> {
    let deployment = &facts.deployment;
    let now = Timestamp::now();
    let (status, again) = status(facts, plan, now);
    context.world.told.say(Key::of(deployment), &status);
    if deployment.status.as_ref() == Some(&status) {
        return Ok(again);
    }
    let namespace = deployment.namespace().unwrap_or_default();
    let name = deployment.name_any();
    let api: Api<ModelDeployment> = Api::namespaced(context.client.clone(), &namespace);
    let patch = Patch::Apply(serde_json::json!({
        "apiVersion": ModelDeployment::api_version(&()),
        "kind": ModelDeployment::kind(&()),
        // With the uid: a status is never written to an object that was made anew under the same name.
        "metadata": { "name": name, "namespace": namespace, "uid": deployment.uid() },
        "status": status,
    }));
    let params = PatchParams::apply(labels::OPERATOR_MANAGER).force();
    let write = api.patch_status(&name, &params, &patch);
    let object = format!("ModelDeployment {namespace}/{name}");
    if call_opt(&context.metrics, "patch", object, write)
        .await?
        .is_some()
    {
        context.metrics.wrote("ModelDeployment", "patch");
        tell(context, deployment, &status).await;
    }
    Ok(again)
}

/// An event for each condition that says something new.
async fn tell(context: &Context, deployment: &ModelDeployment, status: &ModelDeploymentStatus) {
    let before = deployment
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    for type_ in [READY, DEGRADED] {
        let Some(new) = condition::find(&status.conditions, type_) else {
            continue;
        };
        let old = condition::find(before, type_);
        let silent = old.is_none() && type_ == DEGRADED && new.status == "False";
        if silent || old.is_some_and(|old| old.status == new.status && old.reason == new.reason) {
            continue;
        }
        let bad = match type_ {
            DEGRADED => new.status == "True",
            _ => new.status == "False" && !matches!(new.reason.as_str(), "Progressing" | "Suspended"),
        };
        let kind = if bad {
            EventType::Warning
        } else {
            EventType::Normal
        };
        context
            .tell(deployment, kind, &new.reason, "Report", new.message.clone())
            .await;
    }
}

/// The status, and when it would change by the mere passing of time.
pub fn status(
    facts: &Facts,
    plan: &Plan<Applied>,
    now: Timestamp,
) -> (ModelDeploymentStatus, Option<Duration>) {
    let deployment = &facts.deployment;
    let view = View::new(facts, plan);
    let before = deployment
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);

    let limit = i64::from(deployment.spec.rollout.progress_deadline_seconds.max(0));
    let starting = view.agents_have_left(limit, now);
    let ready = ready(&view, starting.is_some());
    let working = matches!(
        ready.reason.as_str(),
        "Progressing" | "NoDeviceFits" | "ReplicaFailed" | "ApplyFailed"
    );
    let since = view.last_progress(before, now);
    let waited = since.map_or(0, |since| now.as_second().saturating_sub(since.as_second()));
    let late = working && waited >= limit;
    let again = (working && !late)
        .then(|| limit.saturating_sub(waited))
        .into_iter()
        .chain(starting)
        .min()
        .map(|seconds| Duration::from_secs(seconds.max(1).unsigned_abs()));

    let progressing = condition::State::new(
        PROGRESSING,
        ready.reason == "Progressing" && !late,
        if late {
            "ProgressDeadlineExceeded"
        } else {
            &ready.reason
        },
        ready.message.clone(),
    );
    let degraded = degraded(&view, &ready, late.then_some(limit));
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let status = ModelDeploymentStatus {
        observed_generation: deployment.metadata.generation,
        revision: plan.revision.number,
        template_hash: plan.revision.hash.clone(),
        replicas: count(view.replicas.len()),
        updated_replicas: count(view.newest().count()),
        ready_replicas: count(view.ready),
        selector: format!("{}={}", labels::DEPLOYMENT, deployment.name_any()),
        url: Some(format!(
            "http://afterglow-{}.{}.svc:8000",
            deployment.spec.cluster,
            deployment.namespace().unwrap_or_default()
        )),
        model_name: Some(crate::deployment::model_name(deployment)),
        conditions: condition::set(
            before,
            &[ready, progressing, degraded],
            deployment.metadata.generation,
            Time(now),
        ),
    };
    (status, again)
}

/// What counts, counted once.
struct View<'a> {
    facts: &'a Facts,
    plan: &'a Plan<Applied>,
    /// All that exist, those just made included.
    replicas: Vec<&'a ModelReplica>,
    /// Of any revision, how many serve.
    ready: usize,
    /// Of the newest.
    ready_newest: usize,
}

impl<'a> View<'a> {
    fn new(facts: &'a Facts, plan: &'a Plan<Applied>) -> Self {
        let made = plan
            .create
            .iter()
            .filter(|new| !facts.own.iter().any(|old| old.name_any() == new.name_any()));
        let replicas: Vec<&ModelReplica> = facts.own.iter().chain(made).collect();
        let mut view = Self {
            facts,
            plan,
            replicas,
            ready: 0,
            ready_newest: 0,
        };
        view.ready = view
            .replicas
            .iter()
            .filter(|replica| view.serves(replica))
            .count();
        view.ready_newest = view.newest().filter(|replica| view.serves(replica)).count();
        view
    }

    fn newest(&self) -> impl Iterator<Item = &'a ModelReplica> {
        self.replicas
            .iter()
            .copied()
            .filter(|replica| replica.spec.revision == self.plan.revision.number)
    }

    fn serves(&self, replica: &ModelReplica) -> bool {
        replica.metadata.deletion_timestamp.is_none()
            && failure::state(replica) == State::Ready
            && !fleet::is_lost(self.facts, replica)
    }

    /// How many seconds the cluster's agents may still take to start, if they are starting: a device that nobody offers yet
    /// is no reason to worry, for so long.
    fn agents_have_left(&self, limit: i64, now: Timestamp) -> Option<i64> {
        let cluster = self.facts.cluster.as_ref()?;
        let conditions = cluster
            .status
            .as_ref()
            .map_or(&[][..], |status| &status.conditions);
        let since = match condition::find(conditions, PROGRESSING) {
            Some(progressing) if progressing.status == "True" && progressing.reason == AGENTS_STARTING => {
                progressing.last_transition_time.0
            }
            Some(_) => return None,
            // Nobody has looked yet.
            None => cluster.metadata.creation_timestamp.as_ref()?.0,
        };
        let left = limit.saturating_sub(now.as_second().saturating_sub(since.as_second()));
        (left > 0).then_some(left)
    }

    /// The last time that anything got further: a replica was made or became ready, or the deployment stopped being ready.
    fn last_progress(
        &self,
        before: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
        now: Timestamp,
    ) -> Option<Timestamp> {
        let stopped = condition::find(before, READY).map(|ready| {
            if ready.status == "False" {
                ready.last_transition_time.0
            } else {
                // If it did, then just now.
                now
            }
        });
        let made = self
            .newest()
            .filter_map(|replica| replica.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let served = self
            .newest()
            .filter(|replica| self.serves(replica))
            .filter_map(|replica| {
                let status = replica.status.as_ref()?;
                condition::find(&status.conditions, READY).map(|ready| ready.last_transition_time.0)
            });
        stopped.into_iter().chain(made).chain(served).max()
    }
}

fn ready(view: &View<'_>, agents_are_starting: bool) -> condition::State {
    let plan = view.plan;
    let state =
        |status: bool, reason: &str, message: String| condition::State::new(READY, status, reason, message);
    if let Some(refusal) = &plan.refusal {
        return state(false, refusal.reason, refusal.message.clone());
    }
    let spec = &view.facts.deployment.spec;
    if spec.suspend {
        return state(
            false,
            "Suspended",
            "spec.suspend is true: no device is used.".to_owned(),
        );
    }
    let target = plan.target as usize;
    let number = plan.revision.number;
    if target == 0 {
        return state(
            false,
            "Suspended",
            "spec.replicas is 0: no device is used.".to_owned(),
        );
    }
    if view.ready_newest >= target && plan.errors.is_empty() {
        return state(
            true,
            "Ready",
            format!(
                "{} of {target} replicas of revision {number} serve.",
                view.ready_newest
            ),
        );
    }
    let mut message = format!(
        "{} of {target} replicas of revision {number} serve",
        view.ready_newest
    );
    let old = view.ready - view.ready_newest;
    if old > 0 {
        message = format!("{message}, {old} of older revisions still do");
    }
    if let Some(error) = plan.errors.first() {
        return state(false, "ApplyFailed", format!("{message}. {error}"));
    }
    // The source's fault first: no device will help.
    let failed = [State::SourceFailed, State::DeviceFailed]
        .into_iter()
        .find_map(|kind| {
            view.newest()
                .filter(|replica| replica.metadata.deletion_timestamp.is_none())
                .find(|replica| failure::state(replica) == kind)
        });
    if let Some(replica) = failed {
        let (reason, words) = failure::words(replica);
        let mut text = format!(
            "{message}. Replica {} on {}/{}: {reason}: {words}",
            replica.name_any(),
            replica.spec.node_name,
            replica.spec.device
        );
        if let Some(unplaced) = &plan.unplaced {
            text = format!("{text} No other device: {unplaced}.");
        }
        return state(false, "ReplicaFailed", text);
    }
    if let Some(unplaced) = &plan.unplaced {
        let mut text = format!("{message}. {unplaced}.");
        if let Some(memory) = &spec.requirements.memory {
            text = format!("{text} spec.requirements.memory is {}.", memory.0);
        }
        if agents_are_starting {
            return state(
                false,
                "Progressing",
                format!(
                    "{text} Agents of InferenceCluster {} are being started.",
                    spec.cluster
                ),
            );
        }
        let is_held = view
            .replicas
            .iter()
            .any(|replica| replica.spec.revision != number && replica.metadata.deletion_timestamp.is_none());
        if is_held && spec.rollout.max_unavailable == 0 {
            text = format!(
                "{text} To let the new revision take an old one's place, set spec.rollout.maxUnavailable to 1."
            );
        }
        return state(false, "NoDeviceFits", text);
    }
    let waiting: Vec<String> = view
        .newest()
        .filter(|replica| !view.serves(replica))
        .take(3)
        .map(|replica| {
            let reason = if fleet::is_lost(view.facts, replica) {
                "the node's agent is silent"
            } else {
                failure::words(replica).0
            };
            format!(
                "{} on {}/{}: {reason}",
                replica.name_any(),
                replica.spec.node_name,
                replica.spec.device
            )
        })
        .collect();
    if !waiting.is_empty() {
        message = format!("{message}; {}", waiting.join(", "));
    }
    state(false, "Progressing", format!("{message}."))
}

fn degraded(view: &View<'_>, ready: &condition::State, late: Option<i64>) -> condition::State {
    if let Some(limit) = late {
        return condition::State::new(
            DEGRADED,
            true,
            "ProgressDeadlineExceeded",
            format!("No progress for {limit} s: {}", ready.message),
        );
    }
    let lost: Vec<String> = view
        .replicas
        .iter()
        .filter(|replica| {
            replica.metadata.deletion_timestamp.is_none() && fleet::is_lost(view.facts, replica)
        })
        .map(|replica| format!("{} on {}", replica.name_any(), replica.spec.node_name))
        .collect();
    if !lost.is_empty() {
        return condition::State::new(
            DEGRADED,
            true,
            "NodeLost",
            format!(
                "The agents of these replicas' nodes have not been heard of for 30 s: {}. See whether the nodes run.",
                lost.join(", ")
            ),
        );
    }
    // Some serve, the rest find no place; while none serve, `Ready` says all there is to say.
    let is_short = ready.reason == "NoDeviceFits" && (1..view.plan.target as usize).contains(&view.ready);
    if is_short || matches!(ready.reason.as_str(), "ReplicaFailed" | "ApplyFailed") {
        return condition::State::new(DEGRADED, true, ready.reason.clone(), ready.message.clone());
    }
    condition::State::new(DEGRADED, false, "AsWished", "Nothing is worse than wished.")
}
