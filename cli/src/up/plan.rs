//! `(wanted, devices, statuses) → replicas`: what the operator does in a cluster, with the same policy, for one machine.

use std::collections::{BTreeMap, BTreeSet};

use afterglow_agent::host::{Statuses, key as replica_key};
use afterglow_crds::condition::{self, READY, State};
use afterglow_crds::gpu_node::{Device, DeviceType};
use afterglow_crds::inference_cluster::CpuFallback;
use afterglow_crds::model_replica::ModelReplicaSpec;
use afterglow_crds::quantity::{bytes, quantity};
use afterglow_crds::{ModelDeployment, ModelReplica, labels};
use afterglow_policy::place::{self, Fleet, Kind, Node, Resident, Wish};
use afterglow_policy::rollout;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sha2::{Digest as _, Sha256};

use super::wanted::{Wanted, key, model_name};
use crate::package::hex;

/// This machine's name as a node.
pub(super) const NODE: &str = "local";
/// What a model is taken to need when nobody has said or measured it and its size is not known.
const ASSUMED: u64 = 512 << 20;

/// Namespace and name of a deployment.
type Key = (String, String);

/// What was decided so far.
#[derive(Debug, Default)]
pub(super) struct Plan {
    revisions: BTreeMap<Key, Revision>,
    replicas: Vec<ModelReplica>,
    made: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Revision {
    number: i64,
    hash: String,
}

/// How a deployment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Somebody answers for it, or nobody is to.
    Ready,
    /// It is on its way.
    Working,
    /// It will not come by waiting.
    Failed(String),
}

impl Plan {
    /// The replicas as they are, with what is known of them.
    pub(super) fn replicas(&self, statuses: &Statuses) -> Vec<ModelReplica> {
        self.replicas
            .iter()
            .map(|replica| {
                let mut replica = replica.clone();
                let known = statuses.get(&replica_key(&replica));
                replica.status = known
                    .filter(|known| known.uid == replica.metadata.uid)
                    .map(|known| known.status.clone());
                replica
            })
            .collect()
    }

    /// Takes the next step; answers how each deployment stands.
    pub(super) fn step(
        &mut self,
        wanted: &[Wanted],
        devices: &[Device],
        cpu: CpuFallback,
        statuses: &Statuses,
        now: &Time,
    ) -> Vec<(ModelDeployment, Standing)> {
        // What an engine has let go of is gone.
        self.replicas.retain(|replica| {
            let released = statuses
                .get(&replica_key(replica))
                .is_some_and(|known| known.uid == replica.metadata.uid && known.engine_released);
            replica.metadata.deletion_timestamp.is_none() || !released
        });
        let known: BTreeSet<Key> = wanted.iter().map(|wanted| key(&wanted.deployment)).collect();
        for replica in &mut self.replicas {
            if !known.contains(&owner(replica)) {
                replica
                    .metadata
                    .deletion_timestamp
                    .get_or_insert_with(|| now.clone());
            }
        }
        self.revisions.retain(|key, _| known.contains(key));
        wanted
            .iter()
            .map(|wanted| {
                let unplaced = self.deploy(wanted, devices, cpu, statuses, now);
                self.stand(wanted, unplaced, statuses, now)
            })
            .collect()
    }

    /// One deployment's step; answers why not all that is wanted found a device.
    fn deploy(
        &mut self,
        wanted: &Wanted,
        devices: &[Device],
        cpu: CpuFallback,
        statuses: &Statuses,
        now: &Time,
    ) -> Option<String> {
        let spec = &wanted.deployment.spec;
        let revision = self.revision(wanted);
        let deployment = key(&wanted.deployment);
        let own: Vec<ModelReplica> = self
            .replicas(statuses)
            .into_iter()
            .filter(|replica| owner(replica) == deployment)
            .collect();
        let positive = |number: i32| u32::try_from(number).unwrap_or(0);
        let step = rollout::step(
            &own.iter()
                .map(|replica| rollout::Replica {
                    name: replica.metadata.name.clone().unwrap_or_default(),
                    // Only which one is the newest counts.
                    revision: i64::from(hash(replica) == revision.hash),
                    ready: state(replica) == Phase::Ready,
                    // Another device would only fetch the same from a source that is at fault.
                    failed: state(replica) == Phase::DeviceFailed,
                    lost: !devices.iter().any(|device| device.name == replica.spec.device),
                    leaving: replica.metadata.deletion_timestamp.is_some(),
                })
                .collect::<Vec<_>>(),
            rollout::Wanted {
                revision: 1,
                replicas: if spec.suspend { 0 } else { positive(spec.replicas) },
                max_surge: positive(spec.rollout.max_surge),
                max_unavailable: positive(spec.rollout.max_unavailable),
            },
        );
        for replica in &mut self.replicas {
            let goes = owner(replica) == deployment
                && step
                    .delete
                    .contains(replica.metadata.name.as_ref().unwrap_or(&String::new()));
            if goes {
                replica
                    .metadata
                    .deletion_timestamp
                    .get_or_insert_with(|| now.clone());
            }
        }
        let mut unplaced = None;
        for _ in 0..step.create {
            let fleet = self.fleet(devices, statuses, &deployment, &revision);
            let wish = self.wish(wanted, cpu, &own, &revision, statuses);
            match place::place(&fleet, &wish) {
                Ok(placement) => {
                    tracing::info!(
                        model = model_name(&wanted.deployment),
                        revision = revision.number,
                        device = placement.device,
                        because = placement.because,
                        "placed"
                    );
                    let replica = self.build(wanted, &revision, placement.device, wish.memory);
                    self.replicas.push(replica);
                }
                Err(rejected) => {
                    unplaced = Some(rejected.summary());
                    break;
                }
            }
        }
        unplaced
    }

    fn revision(&mut self, wanted: &Wanted) -> Revision {
        let spec = &wanted.deployment.spec;
        let template = serde_json::json!({"model": spec.model, "requirements": spec.requirements});
        let hash = short_hash(&template.to_string(), 10);
        let known = self.revisions.get(&key(&wanted.deployment));
        let number = match (wanted.revision, known) {
            (Some(number), _) => number,
            (None, Some(known)) if known.hash == hash => known.number,
            (None, Some(known)) => known.number + 1,
            (None, None) => 1,
        };
        let revision = Revision { number, hash };
        self.revisions.insert(key(&wanted.deployment), revision.clone());
        revision
    }

    fn fleet(&self, devices: &[Device], statuses: &Statuses, deployment: &Key, revision: &Revision) -> Fleet {
        let replicas = self.replicas(statuses);
        let to_device = |device: &Device| {
            let here: Vec<&ModelReplica> = replicas
                .iter()
                .filter(|replica| replica.spec.device == device.name)
                .collect();
            let taken = here
                .iter()
                .any(|replica| owner(replica) == *deployment && hash(replica) == revision.hash);
            let offered = if taken {
                Err("it has a replica of this revision already".to_owned())
            } else if device.offered {
                Ok(())
            } else {
                Err(device.not_offered_because.clone())
            };
            place::Device {
                kind: match device.type_ {
                    DeviceType::Gpu => Kind::Gpu,
                    DeviceType::Cpu => Kind::Cpu,
                },
                family: format!("{:?}", device.family),
                memory: bytes(&device.memory).unwrap_or(0),
                offered,
                gflops: device
                    .self_test
                    .gflops
                    .and_then(|gflops| u64::try_from(gflops).ok())
                    .unwrap_or(0),
                residents: here
                    .iter()
                    .map(|replica| Resident {
                        deployment: owner(replica).0 + "/" + &owner(replica).1,
                        digest: replica.spec.model.source.digest.clone(),
                        memory: occupied(replica),
                    })
                    .collect(),
            }
        };
        let node = Node {
            devices: devices
                .iter()
                .map(|device| (device.name.clone(), to_device(device)))
                .collect(),
            ..Node::default()
        };
        Fleet {
            nodes: [(NODE.to_owned(), node)].into(),
        }
    }

    fn wish(
        &self,
        wanted: &Wanted,
        cpu: CpuFallback,
        own: &[ModelReplica],
        revision: &Revision,
        statuses: &Statuses,
    ) -> Wish {
        let spec = &wanted.deployment.spec;
        let digest = &spec.model.source.digest;
        let same: Vec<ModelReplica> = self
            .replicas(statuses)
            .into_iter()
            .filter(|replica| replica.spec.model.source.digest == *digest)
            .collect();
        let profiles = || {
            same.iter()
                .filter_map(|replica| Some((replica, replica.status.as_ref()?.profile.as_ref()?)))
        };
        let measured = profiles().filter_map(|(_, profile)| bytes(&profile.memory)).max();
        let asked = spec.requirements.memory.as_ref().and_then(bytes);
        let place = |replica: &ModelReplica| (NODE.to_owned(), replica.spec.device.clone());
        Wish {
            deployment: format!("{}/{}", key(&wanted.deployment).0, key(&wanted.deployment).1),
            digest: digest.clone(),
            memory: measured
                .max(asked)
                .unwrap_or_else(|| wanted.bytes.map_or(ASSUMED, |bytes| bytes.saturating_mul(2))),
            families: spec
                .requirements
                .families
                .iter()
                .map(|family| format!("{family:?}"))
                .collect(),
            node_selector: spec.requirements.node_selector.clone(),
            cpu_allowed: cpu == CpuFallback::Allowed,
            failed_on: own
                .iter()
                .filter(|replica| hash(replica) == revision.hash && state(replica) == Phase::DeviceFailed)
                .map(|replica| (place(replica), words(replica)))
                .collect(),
            measured: profiles()
                .filter_map(|(replica, profile)| {
                    let one = profile.latencies.iter().find(|latency| latency.batch <= 1)?;
                    Some((place(replica), u64::try_from(one.p50_microseconds).ok()?))
                })
                .collect(),
        }
    }

    fn build(&mut self, wanted: &Wanted, revision: &Revision, device: String, memory: u64) -> ModelReplica {
        let (namespace, deployment) = key(&wanted.deployment);
        let mut model = wanted.deployment.spec.model.clone();
        model.name = Some(model_name(&wanted.deployment));
        self.made += 1;
        let number = revision.number;
        let place = short_hash(&format!("{NODE}/{device}/{}", revision.hash), 5);
        let mut replica = ModelReplica::new(
            &format!("{deployment}-{number}-{place}"),
            ModelReplicaSpec {
                cluster: wanted.deployment.spec.cluster.clone(),
                node_name: NODE.to_owned(),
                device,
                revision: number,
                model,
                memory: quantity(memory),
            },
        );
        let own = [
            (labels::DEPLOYMENT, deployment),
            (labels::REVISION, number.to_string()),
            (labels::TEMPLATE_HASH, revision.hash.clone()),
        ];
        let metadata = &mut replica.metadata;
        metadata.namespace = Some(namespace);
        metadata.uid = Some(self.made.to_string());
        metadata.labels = Some(own.map(|(key, value)| (key.to_owned(), value)).into());
        replica
    }

    /// How a deployment stands, and the deployment with its status.
    fn stand(
        &self,
        wanted: &Wanted,
        unplaced: Option<String>,
        statuses: &Statuses,
        now: &Time,
    ) -> (ModelDeployment, Standing) {
        let mut deployment = wanted.deployment.clone();
        let target = if deployment.spec.suspend {
            0
        } else {
            deployment.spec.replicas
        };
        let name = key(&deployment);
        let revision = &self.revisions[&name];
        let own: Vec<ModelReplica> = self
            .replicas(statuses)
            .into_iter()
            .filter(|replica| owner(replica) == name && hash(replica) == revision.hash)
            .filter(|replica| replica.metadata.deletion_timestamp.is_none())
            .collect();
        let failed =
            |replica: &&ModelReplica| matches!(state(replica), Phase::DeviceFailed | Phase::SourceFailed);
        let standing = if target <= 0 || own.iter().any(|replica| state(replica) == Phase::Ready) {
            Standing::Ready
        } else if let Some(replica) = own
            .iter()
            .find(failed)
            .filter(|_| own.iter().all(|one| failed(&one)))
        {
            Standing::Failed(words(replica))
        } else if let (Some(unplaced), true) = (unplaced, own.is_empty()) {
            Standing::Failed(unplaced)
        } else {
            Standing::Working
        };
        let condition = match &standing {
            Standing::Ready if target <= 0 => State::new(READY, false, "Suspended", "no replicas are wanted"),
            Standing::Ready => State::new(READY, true, "Ready", ""),
            Standing::Working => State::new(READY, false, "Progressing", "its first replica is on its way"),
            Standing::Failed(why) => State::new(READY, false, "Failed", why.clone()),
        };
        let status = deployment.status.get_or_insert_default();
        status.revision = revision.number;
        status.conditions = condition::set(&[], &[condition], None, now.clone());
        (deployment, standing)
    }
}

/// Where a replica stands, as far as decisions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ready,
    Working,
    SourceFailed,
    DeviceFailed,
}

fn state(replica: &ModelReplica) -> Phase {
    let Some(ready) = ready(replica) else {
        return Phase::Working;
    };
    if ready.status == "True" {
        return Phase::Ready;
    }
    match ready.reason.as_str() {
        "SourceNotFound" | "SourceUnreachable" | "SourceForbidden" | "DigestMismatch" | "SourceTooLarge"
        | "PackageInvalid" | "ModelInvalid" => Phase::SourceFailed,
        "ProbeMismatch" | "PlacementRefused" | "OutOfMemory" | "ProbeFailed" | "DeviceUnknown"
        | "DeviceUnhealthy" | "EngineFailed" | "CacheFull" | "CacheUnusable" => Phase::DeviceFailed,
        _ => Phase::Working,
    }
}

fn words(replica: &ModelReplica) -> String {
    ready(replica).map_or_else(
        || "Pending".to_owned(),
        |ready| format!("{}: {}", ready.reason, ready.message),
    )
}

fn ready(replica: &ModelReplica) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    condition::find(&replica.status.as_ref()?.conditions, READY)
}

fn owner(replica: &ModelReplica) -> Key {
    let metadata = &replica.metadata;
    (
        metadata.namespace.clone().unwrap_or_default(),
        label(replica, labels::DEPLOYMENT),
    )
}

fn hash(replica: &ModelReplica) -> String {
    label(replica, labels::TEMPLATE_HASH)
}

fn label(replica: &ModelReplica, name: &str) -> String {
    let labels = replica.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(name).cloned())
        .unwrap_or_default()
}

/// What was promised, or measured where that is more.
fn occupied(replica: &ModelReplica) -> u64 {
    let measured = replica.status.as_ref().and_then(|status| status.profile.as_ref());
    let measured = measured.and_then(|profile| bytes(&profile.memory));
    bytes(&replica.spec.memory).max(measured).unwrap_or(0)
}

fn short_hash(text: &str, digits: usize) -> String {
    let mut hash = hex(&Sha256::digest(text.as_bytes()));
    hash.truncate(digits);
    hash
}

#[cfg(test)]
mod tests;
