//! `facts → objects to apply and to delete`: pure.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use afterglow_crds::{GpuNode, labels};
use kube::ResourceExt as _;
use kube::api::DynamicObject;

use super::build::{self, Blueprint, Child, Kind};
use super::claim::OPERATED_FROM;
use super::difference;
use super::gather::Facts;
use crate::args::Options;

/// Not done yet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {}
/// Done, as far as it could be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Applied {}

/// What to do for a cluster, or what was done.
#[derive(Debug, Clone)]
pub(crate) struct Plan<Stage> {
    /// Its finalizer, and the claim that it is this operator's, come before anything that must be cleaned up.
    pub(crate) add_finalizer: bool,
    /// Objects that are not as they should be.
    pub(crate) apply: Vec<Child>,
    /// Objects that should not be.
    pub(crate) delete: Vec<(Kind, Arc<DynamicObject>)>,
    /// Nodes that nobody is responsible for any more.
    pub(crate) forget: Vec<GpuNode>,
    /// What agents that are gone have left on Kubernetes' nodes.
    pub(crate) unlabel: Vec<Unlabel>,
    /// The cluster is being deleted: what it still waits for.
    pub(crate) waits_for: Option<String>,
    /// The cluster is being deleted, and nothing of it is left. When applied: its finalizer is gone.
    pub(crate) is_finished: bool,
    /// What the API server refused.
    pub(crate) errors: Vec<String>,
    /// What it refused in the namespaces of clients: theirs to put right, and no matter to anybody else.
    pub(crate) tenant_errors: Vec<String>,
    pub(super) stage: PhantomData<Stage>,
}

/// Labels to take off a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unlabel {
    /// The node.
    pub(crate) node: String,
    /// The labels' keys.
    pub(crate) labels: Vec<String>,
}

/// The plan.
#[tracing::instrument(level = "debug", skip_all)]
pub(crate) fn plan(facts: &Facts, options: &Options) -> Plan<Wanted> {
    if facts.cluster.metadata.deletion_timestamp.is_some() {
        farewell(facts)
    } else {
        keep(facts, options)
    }
}

fn keep(facts: &Facts, options: &Options) -> Plan<Wanted> {
    let wanted = build::all(&Blueprint {
        cluster: &facts.cluster,
        options,
        tenants: &facts.tenants,
        device_classes: facts.kinds.contains(&Kind::DeviceClass),
    });
    let names: BTreeSet<_> = wanted.iter().map(Child::key).collect();
    let mut delete: Vec<_> = facts
        .children
        .iter()
        .filter(|((kind, ..), _)| *kind != Kind::DeviceClass)
        .filter(|(key, _)| !names.contains(*key))
        .map(|((kind, ..), object)| (*kind, object.clone()))
        .collect();
    // What can never be changed is deleted; once it is gone, it is made anew.
    let (stuck, wanted): (Vec<Child>, Vec<Child>) = wanted.into_iter().partition(|child| {
        live(facts, child).is_some_and(|live| difference::is_immutably_other(live, child))
    });
    delete.extend(
        stuck
            .iter()
            .filter_map(|child| Some((child.kind, live(facts, child)?.clone()))),
    );
    sort(&mut delete);
    let apply = wanted
        .into_iter()
        .filter(|child| !live(facts, child).is_some_and(|live| difference::is_current(live, child)))
        .filter(|child| !has_to_wait(facts, child))
        .collect();
    let selector = &facts.cluster.spec.agent.node_selector;
    let has_agent = |node: &str| {
        let is_selected = facts
            .nodes
            .get(node)
            .is_some_and(|labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value)));
        is_selected || facts.judgement.alive.contains(node)
    };
    let forget = facts
        .gpu_nodes
        .iter()
        .filter(|node| node.metadata.deletion_timestamp.is_none())
        .filter(|node| !has_agent(&node.name_any()))
        .cloned()
        .collect();
    Plan {
        add_finalizer: !facts
            .cluster
            .finalizers()
            .iter()
            .any(|name| name == labels::CLUSTER_FINALIZER)
            || facts.cluster.annotations().get(OPERATED_FROM) != Some(&options.namespace),
        apply,
        delete,
        forget,
        unlabel: left_on_nodes(facts, has_agent),
        waits_for: None,
        is_finished: false,
        errors: Vec::new(),
        tenant_errors: Vec::new(),
        stage: PhantomData,
    }
}

/// The labels of this cluster's agents on nodes that have none.
fn left_on_nodes(facts: &Facts, has_agent: impl Fn(&str) -> bool) -> Vec<Unlabel> {
    let cluster = facts.cluster.name_any();
    facts
        .nodes
        .iter()
        // A node that another cluster has taken over carries that one's name.
        .filter(|(node, on_node)| on_node.get(labels::CLUSTER) == Some(&cluster) && !has_agent(node))
        .map(|(node, on_node)| Unlabel {
            node: node.clone(),
            labels: on_node
                .keys()
                .filter(|key| labels::is_on_nodes(key))
                .cloned()
                .collect(),
        })
        .collect()
}

/// A wanted object as it is now.
fn live<'a>(facts: &'a Facts, child: &Child) -> Option<&'a Arc<DynamicObject>> {
    facts.children.get(&child.key())
}

/// Whether it was written too short a time ago: somebody will not leave it alone.
fn has_to_wait(facts: &Facts, child: &Child) -> bool {
    facts
        .contests
        .get(&child.key())
        .is_some_and(|contest| contest.is_about(&difference::stamp(child)) && facts.now < contest.due())
}

/// First the replicas go, while agents are still there to let them go; then what the operator made; then what the agents
/// made, when no agent is left to make it again.
fn farewell(facts: &Facts) -> Plan<Wanted> {
    let mut plan = Plan {
        add_finalizer: false,
        apply: Vec::new(),
        delete: Vec::new(),
        forget: Vec::new(),
        unlabel: Vec::new(),
        waits_for: None,
        is_finished: false,
        errors: Vec::new(),
        tenant_errors: Vec::new(),
        stage: PhantomData,
    };
    if !facts.replicas.is_empty() {
        let shown: Vec<&str> = facts.replicas.iter().take(3).map(String::as_str).collect();
        plan.waits_for = Some(format!(
            "{} ModelReplicas to be let go, among them {}; an agent that is dead is waited for 30 s",
            facts.replicas.len(),
            shown.join(", ")
        ));
        return plan;
    }
    let mut own: Vec<_> = facts
        .children
        .iter()
        .filter(|((kind, ..), _)| *kind != Kind::DeviceClass)
        .map(|((kind, ..), object)| (*kind, object.clone()))
        .collect();
    sort(&mut own);
    if !own.is_empty() {
        plan.waits_for = Some(format!(
            "{} objects to be gone, with the agents' and schedulers' pods",
            own.len()
        ));
        // Agents and schedulers first and to the end: without their rights they could not say goodbye.
        let pods: Vec<_> = own
            .iter()
            .filter(|(kind, _)| matches!(kind, Kind::DaemonSet | Kind::Deployment))
            .cloned()
            .collect();
        plan.delete = if pods.is_empty() { own } else { pods };
        return plan;
    }
    plan.forget.clone_from(&facts.gpu_nodes);
    plan.unlabel = left_on_nodes(facts, |_| false);
    if !plan.forget.is_empty() || !plan.unlabel.is_empty() {
        plan.waits_for = Some(format!(
            "{} GpuNodes and the labels of {} nodes to be gone",
            plan.forget.len(),
            plan.unlabel.len()
        ));
        return plan;
    }
    if !facts.has_siblings {
        plan.delete = facts
            .children
            .iter()
            .map(|((kind, ..), object)| (*kind, object.clone()))
            .collect();
    }
    plan.is_finished = true;
    plan
}

fn sort(objects: &mut [(Kind, Arc<DynamicObject>)]) {
    objects.sort_by_key(|(kind, object)| (*kind, object.namespace(), object.name_any()));
}
