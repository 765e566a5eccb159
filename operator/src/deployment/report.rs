//! What became of a deployment: a status that is the same for the same facts, written only when it differs.

use std::time::Duration;

use afterglow_crds::condition::{self, DEGRADED, PROGRESSING, READY};
use afterglow_crds::model_deployment::ModelDeploymentStatus;
use afterglow_crds::{ModelDeployment, labels};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt as _};

use super::failure::{self, State};
use super::fleet;
use super::gather::Facts;
use super::plan::{Applied, Plan};
use super::progress::DEADLINE_EXCEEDED;
use super::view::View;
use crate::call::{self, call};
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
    let waited = context.progress.waited(facts, plan);
    let (status, again) = status(facts, plan, waited, Timestamp::now());
    context.world.told.say(Key::of(deployment), &status);
    if deployment.status.as_ref() == Some(&status) {
        return Ok(again);
    }
    let namespace = deployment.namespace().unwrap_or_default();
    let api: Api<ModelDeployment> = Api::namespaced(context.client.clone(), &namespace);
    let write = afterglow_crds::status::write(&api, deployment, &status, labels::OPERATOR_MANAGER);
    let object = format!("ModelDeployment {namespace}/{}", deployment.name_any());
    if call(&context.metrics, "patch", object, write).await?.is_some() {
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

/// The status, and when it would change by the mere passing of time. `waited` is for how long nothing has got further
/// ([`Progress`](super::progress::Progress)); `now` is only what is written where a condition changes, and decides nothing.
pub fn status(
    facts: &Facts,
    plan: &Plan<Applied>,
    waited: Duration,
    now: Timestamp,
) -> (ModelDeploymentStatus, Option<Duration>) {
    let deployment = &facts.deployment;
    let view = View::new(facts, plan);
    let before = deployment
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);

    let seconds = deployment
        .spec
        .rollout
        .progress_deadline_seconds
        .max(0)
        .unsigned_abs();
    let limit = Duration::from_secs(seconds.into());
    let is_over = waited >= limit;
    let late = view.is_behind() && is_over;
    // A device that nobody offers yet is no reason to worry while the agents start, for so long.
    let ready = ready(&view, view.agents_are_starting() && !is_over);
    let again =
        (view.is_behind() && !is_over).then(|| limit.saturating_sub(waited).max(Duration::from_secs(1)));

    let progressing = condition::State::new(
        PROGRESSING,
        ready.reason == "Progressing" && !late,
        if late { DEADLINE_EXCEEDED } else { &ready.reason },
        ready.message.clone(),
    );
    let degraded = degraded(&view, &ready, late.then_some(seconds));
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
    if !view.is_behind() {
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
    // The source's fault first: no device will help. What a lost one said last is no reason any more.
    let failed = [State::SourceFailed, State::DeviceFailed]
        .into_iter()
        .find_map(|kind| {
            view.newest()
                .filter(|replica| {
                    replica.metadata.deletion_timestamp.is_none() && !fleet::is_lost(view.facts, replica)
                })
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

fn degraded(view: &View<'_>, ready: &condition::State, late: Option<u32>) -> condition::State {
    if let Some(limit) = late {
        return condition::State::new(
            DEGRADED,
            true,
            DEADLINE_EXCEEDED,
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
