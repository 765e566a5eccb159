//! `facts → replicas to make and to delete`: pure, so that a whole fleet can be simulated.

use std::marker::PhantomData;

use afterglow_crds::model_replica::ModelReplicaSpec;
use afterglow_crds::{ModelDeployment, ModelReplica, labels};
use afterglow_policy::place::{self, Placement};
use afterglow_policy::rollout::{self, Wanted as Target};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use super::check::Refusal;
use super::failure::{self, State};
use super::fleet;
use super::gather::Facts;
use super::revision::{self, Revision};
use afterglow_crds::quantity::quantity;

/// Not done yet.
#[derive(Debug, Clone, Copy)]
pub enum Wanted {}
/// Done, as far as it could be.
#[derive(Debug, Clone, Copy)]
pub enum Applied {}

/// What to do for a deployment, or what was done.
#[derive(Debug, Clone)]
pub struct Plan<Stage> {
    /// The newest revision.
    pub revision: Revision,
    /// Why nothing is placed, if so.
    pub refusal: Option<Refusal>,
    /// How many replicas should be.
    pub target: u32,
    /// Replicas to make; when applied: those that were made.
    pub create: Vec<ModelReplica>,
    /// Why each was put where it was put, in the order of `create`.
    pub because: Vec<String>,
    /// Replicas to delete.
    pub delete: Vec<ModelReplica>,
    /// Why not all that are wanted found a device.
    pub unplaced: Option<String>,
    /// What the API server refused.
    pub errors: Vec<String>,
    stage: PhantomData<Stage>,
}

impl Plan<Wanted> {
    /// The plan once it was carried out: which replicas were made, why they are where they are, and what was refused.
    pub fn applied(
        self,
        made: Vec<ModelReplica>,
        because: Vec<String>,
        errors: Vec<String>,
    ) -> Plan<Applied> {
        Plan {
            revision: self.revision,
            refusal: self.refusal,
            target: self.target,
            create: made,
            because,
            delete: self.delete,
            unplaced: self.unplaced,
            errors,
            stage: PhantomData,
        }
    }
}

/// The plan.
#[tracing::instrument(level = "debug", skip_all)]
pub fn plan(facts: &Facts, verdict: Result<(), Refusal>) -> Plan<Wanted> {
    let deployment = &facts.deployment;
    let revision = revision::current(deployment, &facts.own);
    let refusal = verdict.err();
    let target = if deployment.spec.suspend || refusal.as_ref().is_some_and(|refusal| refusal.removes) {
        0
    } else {
        u32::try_from(deployment.spec.replicas).unwrap_or(0)
    };
    let step = match &refusal {
        // What serves goes on serving; nothing new could be fetched.
        Some(refusal) if !refusal.removes => rollout::Step::default(),
        _ => rollout::step(
            &facts
                .own
                .iter()
                .map(|replica| standing(facts, replica, revision.number))
                .collect::<Vec<_>>(),
            Target {
                revision: revision.number,
                replicas: target,
                max_surge: u32::try_from(deployment.spec.rollout.max_surge).unwrap_or(0),
                max_unavailable: u32::try_from(deployment.spec.rollout.max_unavailable).unwrap_or(0),
            },
        ),
    };

    let mut delete: Vec<ModelReplica> = facts
        .own
        .iter()
        .filter(|replica| step.delete.contains(&replica.name_any()))
        .cloned()
        .collect();
    let mut create = Vec::new();
    let mut because = Vec::new();
    let mut unplaced = None;
    if step.create > 0 {
        let mut fleet = fleet::fleet(facts);
        fleet::close_taken(&mut fleet, facts, revision.number);
        let wish = fleet::wish(facts, revision.number);
        // Each turn of the loop closes a device, so it ends.
        while create.len() < step.create as usize {
            match place::place(&fleet, &wish) {
                Ok(placement) => {
                    let replica = build(facts, &revision, &placement, wish.memory);
                    let name = replica.name_any();
                    // Held by somebody else's replica that is on its way out; its going asks again. Until then another
                    // device may do.
                    let taken = facts.taken_names.contains(&name);
                    fleet.put(&placement, &wish);
                    if let Some(device) = fleet
                        .nodes
                        .get_mut(&placement.node)
                        .and_then(|node| node.devices.get_mut(&placement.device))
                    {
                        device.offered = Err(if taken {
                            format!("the name {name} is still held by a replica that is being removed")
                        } else {
                            format!("it gets the replica {name}")
                        });
                    }
                    if !taken {
                        because.push(placement.because);
                        create.push(replica);
                    }
                }
                Err(rejected) => {
                    unplaced = Some(rejected.summary());
                    break;
                }
            }
        }
    }
    // A device that is to be lent is emptied even where no other can take over: where none was found, or all that were tried
    // have failed.
    let is_coming = !create.is_empty()
        || facts.own.iter().any(|replica| {
            replica.spec.revision == revision.number
                && replica.metadata.deletion_timestamp.is_none()
                && failure::state(replica) == State::Working
                && !fleet::is_lost(facts, replica)
                && !fleet::is_lent(facts, replica)
        });
    if unplaced.is_some() || !is_coming {
        for replica in &facts.own {
            let leaves = replica.metadata.deletion_timestamp.is_none()
                && fleet::is_lent(facts, replica)
                && !delete.contains(replica);
            if leaves {
                delete.push(replica.clone());
            }
        }
    }
    Plan {
        revision,
        refusal,
        target,
        create,
        because,
        delete,
        unplaced,
        errors: Vec::new(),
        stage: PhantomData,
    }
}

/// A replica as the rollout sees it.
fn standing(facts: &Facts, replica: &ModelReplica, newest: i64) -> rollout::Replica {
    let state = failure::state(replica);
    let is_old = replica.spec.revision != newest;
    rollout::Replica {
        name: replica.name_any(),
        revision: replica.spec.revision,
        ready: state == State::Ready,
        failed: match state {
            // The source's fault is not the device's: another device would only fetch the same. Of an old revision there is
            // nothing to wait for either: whoever put it right made a new one.
            State::SourceFailed => is_old,
            // It served, and comes back when its agent has put it right; no other of its revision is ever made.
            State::DeviceFailed => !(is_old && failure::may_pass(replica)),
            State::Ready | State::Working => false,
        },
        lost: fleet::is_lost(facts, replica)
            || fleet::is_lent(facts, replica)
            || fleet::is_crowded_out(facts, replica),
        leaving: replica.metadata.deletion_timestamp.is_some(),
    }
}

fn build(facts: &Facts, revision: &Revision, placement: &Placement, memory: u64) -> ModelReplica {
    let deployment = &facts.deployment;
    let mut model = deployment.spec.model.clone();
    model.name = Some(crate::deployment::model_name(deployment));
    ModelReplica {
        metadata: ObjectMeta {
            name: Some(name(deployment, revision.number, placement)),
            namespace: deployment.namespace(),
            labels: Some(
                [
                    (labels::CLUSTER, deployment.spec.cluster.clone()),
                    (labels::DEPLOYMENT, deployment.name_any()),
                    (labels::REVISION, revision.number.to_string()),
                    (labels::TEMPLATE_HASH, revision.hash.clone()),
                    (labels::NODE, placement.node.clone()),
                ]
                .map(|(key, value)| (key.to_owned(), value))
                .into(),
            ),
            owner_references: Some(vec![owner(deployment)]),
            finalizers: Some(vec![labels::REPLICA_FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: ModelReplicaSpec {
            cluster: deployment.spec.cluster.clone(),
            node_name: placement.node.clone(),
            device: placement.device.clone(),
            revision: revision.number,
            model,
            memory: quantity(memory),
        },
        status: None,
    }
}

/// The same for the same place, so that a plan that is carried out twice makes one replica.
fn name(deployment: &ModelDeployment, revision: i64, placement: &Placement) -> String {
    let place = revision::short_hash(format!("{}/{}", placement.node, placement.device).as_bytes(), 5);
    format!("{}-{revision}-{place}", deployment.name_any())
}

fn owner(deployment: &ModelDeployment) -> OwnerReference {
    OwnerReference {
        api_version: ModelDeployment::api_version(&()).into_owned(),
        kind: ModelDeployment::kind(&()).into_owned(),
        name: deployment.name_any(),
        uid: deployment.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
