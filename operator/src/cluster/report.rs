//! How a cluster is: a status that is the same for the same facts, written only when it differs.

use std::fmt::Write as _;

use afterglow_crds::condition::{self, DEGRADED, PROGRESSING, READY};
use afterglow_crds::inference_cluster::InferenceClusterStatus;
use afterglow_crds::{GpuNode, InferenceCluster, labels};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus, Deployment, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};

use super::build::Kind;
use super::check::Problem;
use super::gather::Facts;
use super::plan::{Applied, Plan};
use crate::call::{self, call};
use crate::operator::Context;
use crate::queue::Key;

/// Reason of `Progressing` while agents start or are replaced; deployments wait for them.
pub(crate) const AGENTS_STARTING: &str = "AgentsStarting";

/// Writes the status and tells of what has changed.
#[tracing::instrument(level = "debug", skip_all)]
pub(crate) async fn report(
    context: &Context,
    facts: &Facts,
    plan: &Plan<Applied>,
    problems: &[Problem],
) -> Result<(), call::Error> {
    let cluster = &facts.cluster;
    let status = status(
        facts,
        plan,
        problems,
        &context.options.namespace,
        Timestamp::now(),
    );
    context.world.told.say(Key::of(cluster), &status);
    if cluster.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let api: Api<InferenceCluster> = Api::all(context.client.clone());
    let write = afterglow_crds::status::write(&api, cluster, &status, labels::OPERATOR_MANAGER);
    let object = format!("InferenceCluster {}", cluster.name_any());
    if call(&context.metrics, "patch", object, write).await?.is_some() {
        context.metrics.wrote("InferenceCluster", "patch");
        tell(context, cluster, &status).await;
    }
    Ok(())
}

async fn tell(context: &Context, cluster: &InferenceCluster, status: &InferenceClusterStatus) {
    let before = cluster
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
        let kind = if is_bad(new, &status.conditions) {
            EventType::Warning
        } else {
            EventType::Normal
        };
        context
            .tell(cluster, kind, &new.reason, "Report", new.message.clone())
            .await;
    }
}

/// Whether what a condition says is a reason to worry. What is only being started is none.
pub(super) fn is_bad(new: &Condition, all: &[Condition]) -> bool {
    if new.type_ == DEGRADED {
        return new.status == "True";
    }
    let is_waiting = matches!(
        new.reason.as_str(),
        "NoNodes" | "NoNodeReady" | "NoSchedulerReady" | "Deleting"
    );
    new.status != "True" && !(is_waiting && condition::is_true(all, PROGRESSING))
}

/// The status.
pub(crate) fn status(
    facts: &Facts,
    plan: &Plan<Applied>,
    problems: &[Problem],
    namespace: &str,
    now: Timestamp,
) -> InferenceClusterStatus {
    let cluster = &facts.cluster;
    let name = cluster.name_any();
    let view = View::new(facts, namespace);
    let before = cluster
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    let states = [
        ready(facts, plan, &view),
        progressing(facts, plan, &view),
        degraded(facts, plan, &view, problems),
    ];
    InferenceClusterStatus {
        observed_generation: cluster.metadata.generation,
        nodes: view.agents.desired_number_scheduled,
        ready_nodes: i32::try_from(view.ready_nodes).unwrap_or(i32::MAX),
        devices: view.devices,
        ready_schedulers: view.schedulers.ready_replicas.unwrap_or(0),
        url: Some(format!("http://afterglow-{name}.{namespace}.svc:8000")),
        conditions: condition::set(before, &states, cluster.metadata.generation, Time(now)),
    }
}

/// What counts, counted once.
struct View {
    agents: DaemonSetStatus,
    agents_are_new: bool,
    schedulers: DeploymentStatus,
    schedulers_are_new: bool,
    ready_nodes: usize,
    devices: i32,
}

impl View {
    fn new(facts: &Facts, namespace: &str) -> Self {
        let name = facts.cluster.name_any();
        let child = |kind: Kind, name: String| facts.children.get(&(kind, Some(namespace.to_owned()), name));
        let agents: Option<DaemonSet> = child(Kind::DaemonSet, format!("afterglow-agent-{name}"))
            .and_then(|object| (**object).clone().try_parse().ok());
        let schedulers: Option<Deployment> = child(Kind::Deployment, format!("afterglow-scheduler-{name}"))
            .and_then(|object| (**object).clone().try_parse().ok());
        let ready: Vec<&GpuNode> = facts
            .gpu_nodes
            .iter()
            .filter(|node| is_ready(facts, node))
            .collect();
        let devices = ready
            .iter()
            .filter_map(|node| node.status.as_ref())
            .map(|status| status.offered)
            .sum();
        let observed =
            |generation: Option<i64>, seen: Option<i64>| generation.is_some() && generation == seen;
        Self {
            agents_are_new: agents.as_ref().is_some_and(|agents| {
                let status = agents.status.clone().unwrap_or_default();
                observed(agents.metadata.generation, status.observed_generation)
                    && status.updated_number_scheduled.unwrap_or(0) >= status.desired_number_scheduled
            }),
            agents: agents.and_then(|agents| agents.status).unwrap_or_default(),
            schedulers_are_new: schedulers.as_ref().is_some_and(|schedulers| {
                let status = schedulers.status.clone().unwrap_or_default();
                observed(schedulers.metadata.generation, status.observed_generation)
                    && status.updated_replicas.unwrap_or(0) >= facts.cluster.spec.scheduler.replicas
            }),
            schedulers: schedulers
                .and_then(|schedulers| schedulers.status)
                .unwrap_or_default(),
            ready_nodes: ready.len(),
            devices,
        }
    }
}

fn is_ready(facts: &Facts, node: &GpuNode) -> bool {
    facts.judgement.alive.contains(&node.name_any())
        && node
            .status
            .as_ref()
            .is_some_and(|status| condition::is_true(&status.conditions, READY))
}

fn ready(facts: &Facts, plan: &Plan<Applied>, view: &View) -> condition::State {
    let state =
        |status: bool, reason: &str, message: String| condition::State::new(READY, status, reason, message);
    if let Some(waits_for) = &plan.waits_for {
        return state(
            false,
            "Deleting",
            format!("It is being deleted and waits for {waits_for}."),
        );
    }
    if let Some(error) = plan.errors.first() {
        return state(false, "ApplyFailed", format!("{error}."));
    }
    if view.agents.desired_number_scheduled == 0 && view.agents_are_new {
        let mut labels = String::new();
        for (key, value) in &facts.cluster.spec.agent.node_selector {
            let _ = write!(labels, " {key}={value}");
        }
        let message = if labels.is_empty() {
            "No node takes an agent: see the nodes' taints and spec.agent.tolerations.".to_owned()
        } else {
            format!(
                "No node has the labels of spec.agent.nodeSelector. Label one: kubectl label node NODE{labels}"
            )
        };
        return state(false, "NoNodes", message);
    }
    if view.ready_nodes == 0 {
        return state(
            false,
            "NoNodeReady",
            format!(
                "None of {} nodes has an agent that offers a device{}. See kubectl get gpunodes.",
                view.agents.desired_number_scheduled,
                why_not(facts)
            ),
        );
    }
    let schedulers = view.schedulers.ready_replicas.unwrap_or(0);
    if schedulers == 0 {
        return state(
            false,
            "NoSchedulerReady",
            format!(
                "None of {} schedulers answers yet. See the pods with the label app.kubernetes.io/component=scheduler.",
                facts.cluster.spec.scheduler.replicas
            ),
        );
    }
    state(
        true,
        "Ready",
        format!(
            "{} of {} nodes offer {} devices; {schedulers} of {} schedulers answer.",
            view.ready_nodes,
            view.agents.desired_number_scheduled,
            view.devices,
            facts.cluster.spec.scheduler.replicas
        ),
    )
}

fn progressing(facts: &Facts, plan: &Plan<Applied>, view: &View) -> condition::State {
    let state = |status: bool, reason: &str, message: &str| {
        condition::State::new(PROGRESSING, status, reason, message)
    };
    if plan.waits_for.is_some() {
        return state(true, "Deleting", "What belongs to it is being deleted.");
    }
    if !view.agents_are_new || view.agents.number_ready < view.agents.desired_number_scheduled {
        return state(true, AGENTS_STARTING, "Agents are being started or replaced.");
    }
    if !view.schedulers_are_new
        || view.schedulers.ready_replicas.unwrap_or(0) < facts.cluster.spec.scheduler.replicas
    {
        return state(
            true,
            "SchedulersStarting",
            "Schedulers are being started or replaced.",
        );
    }
    state(false, "Complete", "Agents and schedulers are as the spec says.")
}

fn degraded(facts: &Facts, plan: &Plan<Applied>, view: &View, problems: &[Problem]) -> condition::State {
    let state = |status: bool, reason: &str, message: String| {
        condition::State::new(DEGRADED, status, reason, message)
    };
    if let Some(error) = plan.errors.first() {
        return state(true, "ApplyFailed", format!("{error}."));
    }
    if let Some(error) = plan.tenant_errors.first() {
        return state(
            true,
            "TenantServiceMissing",
            format!(
                "A namespace of clients lacks its Service: {error}. Nobody else is kept from being served."
            ),
        );
    }
    if let Some(problem) = problems.first() {
        return state(true, problem.reason, problem.message.clone());
    }
    let silent: Vec<String> = facts
        .gpu_nodes
        .iter()
        .map(ResourceExt::name_any)
        .filter(|name| facts.judgement.dead.contains(name))
        .collect();
    if !silent.is_empty() {
        return state(
            true,
            "AgentsSilent",
            format!(
                "No word for 30 s from the agents on {}: nothing is placed there. See whether the nodes run.",
                silent.join(", ")
            ),
        );
    }
    let missing =
        i64::from(view.agents.desired_number_scheduled) - i64::try_from(view.ready_nodes).unwrap_or(0);
    if missing > 0 && view.ready_nodes > 0 {
        return state(
            true,
            "NodesNotReady",
            format!(
                "{missing} nodes offer no device{}. See kubectl get gpunodes.",
                why_not(facts)
            ),
        );
    }
    state(false, "AsWished", "Nothing is worse than wished.".to_owned())
}

/// What the agents say that offer nothing.
fn why_not(facts: &Facts) -> String {
    let reasons: Vec<String> = facts
        .gpu_nodes
        .iter()
        .filter(|node| !is_ready(facts, node))
        .take(3)
        .filter_map(|node| {
            let status = node.status.as_ref()?;
            let ready = condition::find(&status.conditions, READY)?;
            let words = if ready.message.is_empty() {
                &ready.reason
            } else {
                &ready.message
            };
            Some(format!("{}: {words}", node.name_any()))
        })
        .collect();
    if reasons.is_empty() {
        String::new()
    } else {
        format!(" ({})", reasons.join("; "))
    }
}
