//! The rules: what holds after each event, and what holds when all is at rest. They look at the objects and the machines
//! themselves and share no code with what they judge.

use std::sync::Arc;

use afterglow_crds::condition::{self, DEGRADED, READY};
use afterglow_crds::model_deployment::ModelDeploymentStatus;
use afterglow_crds::{GpuNode, ModelDeployment, ModelReplica};
use afterglow_operator::steps::{Facts, Plan, Wanted};
use afterglow_scheduler::fleet::from_objects;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt as _;

use crate::engine::Loaded;
use crate::world::{CLUSTER, World};

/// What may be written from the last fault to the rest: a few rounds of each object, never a storm.
const LATE_WRITES: u64 = 250;
/// What is taken for a model's memory where nobody says.
const ASSUMED: u64 = 512 << 20;

/// A quantity in bytes; the simulation writes whole numbers and `Ki`, `Mi`, `Gi` only.
pub fn bytes(quantity: &Quantity) -> u64 {
    let text = quantity.0.as_str();
    let units = [("Gi", 30), ("Mi", 20), ("Ki", 10), ("", 0)];
    units
        .into_iter()
        .find_map(|(unit, shift)| {
            text.strip_suffix(unit)?
                .parse::<u64>()
                .ok()
                .map(|number| number << shift)
        })
        .unwrap_or(0)
}

fn is_ready(replica: &ModelReplica) -> bool {
    let status = replica.status.as_ref();
    replica.metadata.deletion_timestamp.is_none()
        && status.is_some_and(|status| condition::is_true(&status.conditions, READY))
}

/// Whether a status says that nothing has got further for too long.
pub fn is_late(status: &ModelDeploymentStatus) -> bool {
    condition::find(&status.conditions, DEGRADED)
        .is_some_and(|degraded| degraded.status == "True" && degraded.reason == "ProgressDeadlineExceeded")
}

/// A plan deletes no replica that is needed to serve: after it as many serve as must, or as many as before.
pub fn plan_keeps_serving(facts: &Facts, plan: &Plan<Wanted>) -> Result<(), String> {
    let serves = |replica: &&ModelReplica| {
        let spec = &replica.spec;
        let node = facts
            .gpu_nodes
            .iter()
            .find(|node| node.name_any() == spec.node_name);
        let lent = node.is_none_or(|node| node.spec.lend.contains(&spec.device));
        is_ready(replica) && !facts.judgement.dead.contains(&spec.node_name) && !lent
    };
    let before = facts.own.iter().filter(serves).count();
    let after = facts
        .own
        .iter()
        .filter(serves)
        .filter(|replica| {
            plan.delete
                .iter()
                .all(|gone| gone.name_any() != replica.name_any())
        })
        .count();
    let missing = u32::try_from(facts.deployment.spec.rollout.max_unavailable).unwrap_or(0);
    let floor = plan.target.saturating_sub(missing) as usize;
    if after < before.min(floor) {
        let name = facts.deployment.name_any();
        return Err(format!(
            "a plan for {name} leaves {after} of {before} that serve, and {floor} must"
        ));
    }
    Ok(())
}

impl World {
    /// What holds after each event.
    pub fn check(&mut self) -> Result<(), String> {
        let is_new = self.checked != self.api.replicas.last;
        self.checked = self.api.replicas.last;
        for machine in &self.machines {
            for card in &machine.cards {
                let promised: u64 = self
                    .api
                    .replicas
                    .objects
                    .values()
                    .filter(|replica| {
                        is_new && replica.spec.node_name == machine.name && replica.spec.device == card.name
                    })
                    .map(|replica| bytes(&replica.spec.memory))
                    .sum();
                if promised > card.memory {
                    return Err(format!(
                        "{}/{} has {} bytes, and {promised} of them are promised",
                        machine.name, card.name, card.memory
                    ));
                }
                let Some(engine) = card.engine.as_ref().filter(|engine| engine.runs) else {
                    continue;
                };
                if let Some(claim) = card.pod {
                    return Err(format!(
                        "{}/{} belongs to claim {claim} and to an engine with {} models",
                        machine.name,
                        card.name,
                        engine.models.len()
                    ));
                }
            }
        }
        Ok(())
    }

    /// An agent takes its finalizer off: then its engine must have let go.
    pub fn check_release(&mut self, node: usize, replica: &ModelReplica) {
        let still = self.machines[node].cards.iter().any(|card| {
            let models = card.engine.iter().flat_map(|engine| engine.models.values());
            models.filter(|loaded| loaded.uid == replica.metadata.uid).count() > 0
        });
        if still {
            self.violate(format!(
                "node-{node} lets {} go while its engine has it",
                replica.name_any()
            ));
        }
    }

    /// What holds some time after the last fault.
    pub fn check_converged(&mut self) {
        let verdict = self
            .deployments_are_as_wished()
            .and_then(|()| self.replicas_are_where_they_should())
            .and_then(|()| self.schedulers_see_what_is())
            .and_then(|()| {
                if self.late_writes > LATE_WRITES {
                    return Err(format!("{} writes since the last fault", self.late_writes));
                }
                Ok(())
            });
        if let Err(why) = verdict {
            self.violate(format!("not at rest long after the last fault: {why}"));
        }
    }

    /// What holds at the end: each request that came had its one end.
    pub fn check_rest(&mut self) {
        let under_way = self.requests.len() as u64;
        if self.counts.came != self.counts.ended + under_way {
            self.violate(format!(
                "{} requests came, {} ended, {under_way} are under way",
                self.counts.came, self.counts.ended
            ));
        }
    }

    fn own(&self, deployment: &ModelDeployment) -> Vec<&Arc<ModelReplica>> {
        self.api
            .replicas
            .objects
            .values()
            .filter(|replica| {
                let mut owners = replica.owner_references().iter();
                owners.any(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref())
            })
            .collect()
    }

    fn deployments_are_as_wished(&self) -> Result<(), String> {
        for deployment in self.api.deployments.objects.values() {
            let name = deployment.name_any();
            let Some(status) = &deployment.status else {
                return Err(format!("{name} has no status"));
            };
            if status.observed_generation != deployment.metadata.generation {
                return Err(format!("{name}'s status is of an older generation"));
            }
            let Some(ready) = condition::find(&status.conditions, READY) else {
                return Err(format!("{name} has no Ready condition"));
            };
            let own = self.own(deployment);
            let newest = own
                .iter()
                .filter(|replica| replica.spec.revision == status.revision);
            let serving = newest.filter(|replica| is_ready(replica)).count();
            let target = usize::try_from(deployment.spec.replicas).unwrap_or(0);
            // The longest deadline is four minutes, the rest comes thirteen after the last fault.
            let is_late = is_late(status);
            let is_bad = deployment.spec.model.source.digest.contains("bad");
            let right = match ready.reason.as_str() {
                "Ready" => serving == target && own.len() == target && !deployment.spec.suspend,
                "Suspended" => own.is_empty() && (deployment.spec.suspend || target == 0),
                "NameTaken" => own.is_empty(),
                "ReplicaFailed" => is_bad && is_late,
                "NoDeviceFits" => {
                    self.nobody_has_room(deployment, status.revision)?;
                    is_late
                }
                _ => false,
            };
            if !right {
                return Err(format!(
                    "{name} wants {target}, has {} of which {serving} serve, and says {}: {}",
                    own.len(),
                    ready.reason,
                    ready.message
                ));
            }
        }
        Ok(())
    }

    /// No device has room for one more replica of a deployment: looked for without the operator's help.
    fn nobody_has_room(&self, deployment: &ModelDeployment, revision: i64) -> Result<(), String> {
        let own = self.own(deployment);
        let asked = deployment.spec.requirements.memory.as_ref().map(bytes);
        let digest = &deployment.spec.model.source.digest;
        let measured = self
            .api
            .replicas
            .objects
            .values()
            .filter(|replica| replica.spec.model.source.digest == *digest)
            .filter_map(|replica| Some(bytes(&replica.status.as_ref()?.profile.as_ref()?.memory)))
            .max();
        let needed = measured.max(asked).unwrap_or(ASSUMED);
        for machine in self.machines.iter().filter(|machine| !machine.gone) {
            let Some(node) = self
                .api
                .nodes
                .objects
                .values()
                .find(|node| node.name_any() == machine.name)
            else {
                continue;
            };
            let offered = node
                .status
                .iter()
                .flat_map(|status| &status.devices)
                .filter(|device| {
                    device.offered && !node.spec.lend.contains(&device.name) && !node.spec.unschedulable
                });
            for device in offered {
                let here = |replica: &ModelReplica| {
                    replica.spec.node_name == machine.name && replica.spec.device == device.name
                };
                let has_one = own
                    .iter()
                    .any(|replica| here(replica) && replica.spec.revision == revision);
                let taken: u64 = self
                    .api
                    .replicas
                    .objects
                    .values()
                    .filter(|replica| here(replica))
                    .map(|replica| bytes(&replica.spec.memory))
                    .sum();
                if !has_one && taken + needed <= bytes(&device.memory) {
                    return Err(format!(
                        "{} finds no device, and {}/{} has room",
                        deployment.name_any(),
                        machine.name,
                        device.name
                    ));
                }
            }
        }
        Ok(())
    }

    fn replicas_are_where_they_should(&self) -> Result<(), String> {
        for replica in self.api.replicas.objects.values() {
            let name = replica.name_any();
            if replica.metadata.deletion_timestamp.is_some() {
                return Err(format!("{name} is still being deleted"));
            }
            let loaded = self.loaded().any(|(machine, device, loaded)| {
                machine == replica.spec.node_name
                    && device == replica.spec.device
                    && loaded.uid == replica.metadata.uid
            });
            let gone = self
                .machines
                .iter()
                .any(|machine| machine.gone && machine.name == replica.spec.node_name);
            if is_ready(replica) && !loaded && !gone {
                return Err(format!("{name} says that it is Ready, and no engine has it"));
            }
        }
        for (machine, device, loaded) in self.loaded() {
            let known = self
                .api
                .replicas
                .objects
                .values()
                .any(|replica| replica.metadata.uid == loaded.uid);
            if !known {
                return Err(format!(
                    "{machine}/{device} still has {}, which is gone",
                    loaded.key.1
                ));
            }
        }
        Ok(())
    }

    fn loaded(&self) -> impl Iterator<Item = (&str, &str, &Loaded)> {
        self.machines.iter().flat_map(|machine| {
            machine.cards.iter().flat_map(|card| {
                let models = card.engine.iter().flat_map(|engine| engine.models.values());
                models.map(|loaded| (machine.name.as_str(), card.name.as_str(), loaded))
            })
        })
    }

    fn schedulers_see_what_is(&self) -> Result<(), String> {
        let replicas: Vec<&ModelReplica> = self
            .api
            .replicas
            .objects
            .values()
            .map(|replica| &**replica)
            .collect();
        let nodes: Vec<&GpuNode> = self.api.nodes.objects.values().map(|node| &**node).collect();
        let deployments: Vec<&ModelDeployment> = self
            .api
            .deployments
            .objects
            .values()
            .map(|deployment| &**deployment)
            .collect();
        let truth = from_objects(CLUSTER, &replicas, &nodes, &deployments);
        for (who, scheduler) in self.schedulers.iter().enumerate() {
            if *scheduler.fleet != truth {
                return Err(format!("scheduler-{who} sees another fleet than there is"));
            }
        }
        Ok(())
    }
}
