//! The cluster's nodes and what is on them, in the words of `policy::place`.

use std::collections::{BTreeMap, BTreeSet};

use afterglow_crds::gpu_node::{self, DeviceType, TestResult};
use afterglow_crds::inference_cluster::CpuFallback;
use afterglow_crds::{GpuNode, ModelReplica, labels};
use afterglow_policy::place::{Closed, Device, Fleet, Kind, Node, Resident, Wish, crowded_out};
use kube::ResourceExt as _;

use super::failure::{self, State};
use super::gather::Facts;
use afterglow_crds::quantity::bytes;

/// What a model is taken to need when nobody has said or measured it.
///
/// The size of the file is not known before an agent has fetched it. Embedding models and image classifiers stay below
/// this; the probe measures before the model serves, and a model that needs more than is free fails with `OutOfMemory`.
const ASSUMED: u64 = 512 << 20;

/// The fleet as it is now.
pub(crate) fn fleet(facts: &Facts) -> Fleet {
    let mut fleet = Fleet {
        nodes: facts
            .gpu_nodes
            .iter()
            .map(|node| (node.name_any(), to_node(node, facts)))
            .collect(),
    };
    // Also those that are being deleted: until the engine has let go, the memory is not free.
    for replica in &facts.all {
        let device = fleet
            .nodes
            .get_mut(&replica.spec.node_name)
            .and_then(|node| node.devices.get_mut(&replica.spec.device));
        if let Some(device) = device {
            device.residents.push(Resident {
                deployment: deployment_of(replica),
                digest: replica.spec.model.source.digest.clone(),
                memory: occupied(replica),
            });
        }
    }
    fleet
}

/// What a replica of the newest revision needs.
pub(crate) fn wish(facts: &Facts, revision: i64) -> Wish {
    let spec = &facts.deployment.spec;
    let digest = &spec.model.source.digest;
    let profiles = facts
        .all
        .iter()
        .filter(|replica| replica.spec.model.source.digest == *digest)
        .filter_map(|replica| Some((replica, replica.status.as_ref()?.profile.as_ref()?)));
    let measured = profiles
        .clone()
        .filter_map(|(_, profile)| bytes(&profile.memory))
        .max();
    let asked = spec.requirements.memory.as_ref().and_then(bytes);
    let latencies = profiles
        .filter_map(|(replica, profile)| {
            let one_row = profile.latencies.iter().find(|latency| latency.batch <= 1)?;
            let place = (replica.spec.node_name.clone(), replica.spec.device.clone());
            Some((place, u64::try_from(one_row.p50_microseconds).ok()?))
        })
        .collect();
    let failed_on = facts
        .own
        .iter()
        .filter(|replica| replica.spec.revision == revision && failure::state(replica) == State::DeviceFailed)
        .map(|replica| {
            let place = (replica.spec.node_name.clone(), replica.spec.device.clone());
            let (reason, message) = failure::words(replica);
            (place, format!("{reason}: {message}"))
        })
        .collect();
    Wish {
        deployment: format!(
            "{}/{}",
            facts.deployment.namespace().unwrap_or_default(),
            facts.deployment.name_any()
        ),
        digest: digest.clone(),
        memory: match (measured, asked) {
            (None, None) => ASSUMED,
            (measured, asked) => measured.max(asked).unwrap_or(ASSUMED),
        },
        families: spec
            .requirements
            .families
            .iter()
            .map(|&family| spelled(family))
            .collect(),
        node_selector: spec.requirements.node_selector.clone(),
        cpu_allowed: facts
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.spec.cpu_fallback == CpuFallback::Allowed),
        failed_on,
        measured: latencies,
    }
}

/// Closes the devices that have, or still had a moment ago, a replica of this very revision: one per device.
pub(crate) fn close_taken(fleet: &mut Fleet, facts: &Facts, revision: i64) {
    let own: BTreeMap<(String, String), &ModelReplica> = facts
        .own
        .iter()
        .filter(|replica| replica.spec.revision == revision && failure::state(replica) != State::DeviceFailed)
        .map(|replica| {
            let place = (replica.spec.node_name.clone(), replica.spec.device.clone());
            (place, replica)
        })
        .collect();
    for ((node, device), replica) in own {
        if let Some(device) = fleet
            .nodes
            .get_mut(&node)
            .and_then(|node| node.devices.get_mut(&device))
        {
            device.offered = Err(if replica.metadata.deletion_timestamp.is_some() {
                format!("replica {} is still being removed", replica.name_any())
            } else {
                format!("it has the replica {} already", replica.name_any())
            });
        }
    }
}

/// Whether a replica's device is to be lent to other pods.
pub(crate) fn is_lent(facts: &Facts, replica: &ModelReplica) -> bool {
    facts.gpu_nodes.iter().any(|node| {
        node.name_any() == replica.spec.node_name && node.spec.lend.contains(&replica.spec.device)
    })
}

/// Whether the node of a replica is gone or its agent dead.
pub(crate) fn is_lost(facts: &Facts, replica: &ModelReplica) -> bool {
    let node = &replica.spec.node_name;
    // A GpuNode that cannot be read is still there.
    let is_known = || {
        facts.gpu_nodes.iter().any(|known| known.name_any() == *node) || facts.unreadable.nodes.contains(node)
    };
    facts.judgement.dead.contains(node) || !is_known()
}

/// Whether a replica's device was promised to more than fit on it, and others came first.
///
/// What a model was found to need later does not count: it serves, or fails for itself.
pub(crate) fn is_crowded_out(facts: &Facts, replica: &ModelReplica) -> bool {
    let Some(memory) = facts
        .gpu_nodes
        .iter()
        .find(|node| node.name_any() == replica.spec.node_name)
        .and_then(|node| node.status.as_ref())
        .and_then(|status| {
            status
                .devices
                .iter()
                .find(|device| device.name == replica.spec.device)
        })
        .and_then(|device| bytes(&device.memory))
    else {
        return false;
    };
    let mut there: Vec<&ModelReplica> = facts
        .all
        .iter()
        .filter(|other| {
            other.spec.node_name == replica.spec.node_name && other.spec.device == replica.spec.device
        })
        .collect();
    let place = |replica: &ModelReplica| (replica.namespace(), replica.name_any());
    // Every operator, and the same one later, must come to the same end.
    there.sort_by_key(|replica| (replica.metadata.creation_timestamp.clone(), place(replica)));
    let promises = there
        .iter()
        .map(|replica| (place(replica), bytes(&replica.spec.memory).unwrap_or(0)));
    crowded_out(memory, promises).contains(&place(replica))
}

fn to_node(node: &GpuNode, facts: &Facts) -> Node {
    let name = node.name_any();
    let machine = facts.nodes.get(&name);
    let leaving = node.metadata.deletion_timestamp.is_some() || machine.is_none_or(|machine| machine.leaving);
    let closed = if leaving {
        Some(Closed::Leaving)
    } else if !facts.judgement.alive.contains(&name) {
        Some(Closed::Silent)
    } else if node.spec.unschedulable || machine.is_some_and(|machine| machine.unschedulable) {
        Some(Closed::Cordoned)
    } else {
        None
    };
    let lent: BTreeSet<&String> = node.spec.lend.iter().collect();
    let devices = node.status.iter().flat_map(|status| &status.devices);
    Node {
        labels: machine.map(|machine| machine.labels.clone()).unwrap_or_default(),
        closed,
        devices: devices
            .map(|device| {
                (
                    device.name.clone(),
                    to_device(device, lent.contains(&device.name)),
                )
            })
            .collect(),
    }
}

fn to_device(device: &gpu_node::Device, lent: bool) -> Device {
    let offered = if lent {
        Err("it is lent to other pods by spec.lend of its GpuNode".to_owned())
    } else if device.offered {
        Ok(())
    } else if !device.not_offered_because.is_empty() {
        Err(device.not_offered_because.clone())
    } else if device.self_test.result == TestResult::NotRun {
        Err("its self-test has not run yet".to_owned())
    } else {
        Err("its agent does not say why".to_owned())
    };
    Device {
        kind: match device.type_ {
            DeviceType::Gpu => Kind::Gpu,
            DeviceType::Cpu => Kind::Cpu,
        },
        family: spelled(device.family),
        memory: bytes(&device.memory).unwrap_or(0),
        offered,
        gflops: device
            .self_test
            .gflops
            .and_then(|gflops| u64::try_from(gflops).ok())
            .unwrap_or(0),
        residents: Vec::new(),
    }
}

/// What was promised, or what was measured where that is more.
fn occupied(replica: &ModelReplica) -> u64 {
    let promised = bytes(&replica.spec.memory).unwrap_or(0);
    let measured = replica
        .status
        .as_ref()
        .and_then(|status| status.profile.as_ref())
        .and_then(|profile| bytes(&profile.memory))
        .unwrap_or(0);
    promised.max(measured)
}

fn deployment_of(replica: &ModelReplica) -> String {
    let name = replica
        .labels()
        .get(labels::DEPLOYMENT)
        .map_or("", String::as_str);
    format!("{}/{name}", replica.namespace().unwrap_or_default())
}

/// As the CRD spells it.
fn spelled(family: gpu_node::Family) -> String {
    match serde_json::to_value(family) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{family:?}"),
    }
}
