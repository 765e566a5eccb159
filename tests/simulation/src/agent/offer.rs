//! What a node offers: to whom its devices belong, its `GpuNode`, its slice.

use std::collections::BTreeMap;
use std::time::Duration;

use afterglow_agent::lend::{self, State as Lending};
use afterglow_agent::offer::status as offered;
use afterglow_crds::gpu_node::{Device, DeviceType, Family, GpuNodeSpec, SelfTest, TestResult};
use afterglow_crds::{GpuNode, labels};
use afterglow_operator::steps::Key;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as Stamp;

use super::Step;
use crate::api::Only;
use crate::bug::Bug;
use crate::time::to_second;
use crate::trace::Sight;
use crate::world::{CLUSTER, Who, World};

/// Between two rounds: while nothing happens, while a device changes hands, while one is lent.
const ROUNDS: [Duration; 3] = [
    Duration::from_secs(30),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

impl World {
    pub(super) fn round_soon(&mut self, node: usize, wait: Duration) {
        let Some(agent) = &mut self.machines[node].agent else {
            return;
        };
        if agent.is_found {
            agent.round += 1;
            let round = agent.round;
            self.agent_soon(node, wait, Step::Round(round));
        }
    }

    pub(super) fn inventory(&self, node: usize) -> Vec<Device> {
        self.machines[node]
            .cards
            .iter()
            .map(|card| Device {
                name: card.name.clone(),
                type_: DeviceType::Gpu,
                family: Family::Polaris,
                product_name: "RX 580".to_owned(),
                selector: Some("opencl:0".to_owned()),
                memory: Quantity(card.memory.to_string()),
                self_test: SelfTest {
                    result: TestResult::Passed,
                    gflops: Some(4000),
                    ..SelfTest::default()
                },
                offered: true,
                ..Device::default()
            })
            .collect()
    }

    /// The first part of a round: to whom the devices belong, and the `GpuNode`'s status.
    pub(super) fn round(&mut self, node: usize) {
        let name = self.machines[node].name.clone();
        let key = Key::cluster(&name);
        let found = self.call(Who::Agent(node), |world| {
            if let Some(found) = world.api.nodes.objects.get(&key) {
                return Ok(found.clone());
            }
            let mut new = GpuNode::new(
                &name,
                GpuNodeSpec {
                    cluster: CLUSTER.to_owned(),
                    ..GpuNodeSpec::default()
                },
            );
            new.metadata.labels = Some([(labels::CLUSTER.to_owned(), CLUSTER.to_owned())].into());
            let (nodes, moment) = world.api.nodes(world.now);
            nodes.create(moment, new)
        });
        let Ok(gpu_node) = found else {
            let wait = self.random.seconds(1, 20);
            self.round_soon(node, wait);
            return;
        };
        let inventory = self.inventory(node);
        let lending = self.lending(node, &gpu_node, &inventory);
        let devices = lend::for_placement(&inventory, &lending);
        let usable = lend::for_engines(&inventory, &lending);
        let facts = offered::Facts {
            devices: &devices,
            lending: &lending,
            warnings: &[],
            address: &format!("{name}:9400"),
            generation: gpu_node.metadata.generation,
        };
        let stamp = Stamp(to_second(self.now, self.machines[node].skew));
        let status = offered::status(&facts, gpu_node.status.as_ref(), stamp);
        if let Some(agent) = &mut self.machines[node].agent {
            agent.ledger.clone_from(&lending);
        }
        self.use_devices(node, usable);
        if gpu_node.status.as_ref() != Some(&status) {
            let only = Only::object(&*gpu_node);
            let offers = status.offered;
            let written = self.call(Who::Agent(node), |world| {
                let (nodes, moment) = world.api.nodes(world.now);
                nodes.update(moment, &key, &only, false, |node| node.status = Some(status))
            });
            crate::note!(
                self,
                "agent of {name} offers {offers}: {:?}",
                written.as_ref().map(|_| ())
            );
            if written.is_err() {
                let wait = self.random.seconds(1, 20);
                self.round_soon(node, wait);
                return;
            }
        }
        let Some(agent) = &mut self.machines[node].agent else {
            return;
        };
        agent.round += 1;
        let round = agent.round;
        let wait = self.random.milliseconds(1, 50);
        self.agent_soon(node, wait, Step::Slice(lending, round));
    }

    /// To whom the devices belong from now on; as `Offer::step` in the agent asks it.
    pub(super) fn lending(
        &mut self,
        node: usize,
        gpu_node: &GpuNode,
        inventory: &[Device],
    ) -> BTreeMap<String, Lending> {
        let name = &self.machines[node].name;
        let mut replicas: BTreeMap<String, usize> = BTreeMap::new();
        for replica in self.api.replicas.objects.values() {
            if replica.spec.node_name == *name {
                *replicas.entry(replica.spec.device.clone()).or_default() += 1;
            }
        }
        let claims = self.claims_on(node);
        let before = self.machines[node]
            .agent
            .as_ref()
            .and_then(|agent| agent.lending.clone());
        let wanted = &gpu_node.spec.lend;
        let is_careless = self.bug == Some(Bug::HandsOverTooEarly);
        let machine = &self.machines[node];
        let mut waits = false;
        let lending = inventory
            .iter()
            .map(|device| {
                let name = &device.name;
                let state = before.as_ref().and_then(|lending| lending.get(name)).copied();
                let facts = lend::Facts {
                    wanted: wanted.contains(name),
                    replicas: replicas.get(name).copied().unwrap_or(0),
                    claims: claims.get(name).copied().unwrap_or(0),
                    occupied: !is_careless
                        && machine
                            .card(name)
                            .is_some_and(|card| machine.cards[card].engine.is_some()),
                };
                waits |= state == Some(Lending::Draining) && facts.replicas == 0 && facts.occupied;
                let next = match state {
                    Some(state) => state.next(facts),
                    None => Lending::at_start(facts),
                };
                (name.clone(), next)
            })
            .collect();
        if waits {
            self.trace.saw(Sight::LendingWaits);
        }
        lending
    }

    /// The second part of a round: the slice, which says who may claim what.
    pub(super) fn slice(&mut self, node: usize, states: &BTreeMap<String, Lending>) {
        let wait = self.random.seconds(1, 20);
        if self.call(Who::Agent(node), |_| Ok(())).is_err() {
            self.round_soon(node, wait);
            return;
        }
        let Some(agent) = &self.machines[node].agent else {
            return;
        };
        let ledger = agent.ledger.clone();
        let key = Key::cluster(&self.machines[node].name);
        if ledger != *states {
            return;
        }
        for (name, state) in &ledger {
            self.publish(node, name, state.tainted());
        }
        let Some(agent) = &mut self.machines[node].agent else {
            return;
        };
        if agent.lending.as_ref() != Some(&ledger) {
            let now = self.now;
            self.trace
                .note(now, format_args!("agent of node-{node} publishes {ledger:?}"));
        }
        let before = agent.lending.replace(ledger.clone());
        let at_rest =
            |lending: &BTreeMap<String, Lending>| lending.values().all(|state| *state == Lending::Serving);
        agent.watchful = match &before {
            Some(before) if at_rest(before) => agent.watchful.saturating_sub(1),
            _ => 5,
        };
        let asked = agent.nodes.objects.get(&key).is_some_and(|object| {
            ledger
                .iter()
                .any(|(name, state)| *state == Lending::Serving && object.spec.lend.contains(name))
        });
        let wait = if asked || ledger.values().any(|state| state.moving()) {
            ROUNDS[1]
        } else if ledger.values().any(|state| !state.tainted()) {
            ROUNDS[2]
        } else {
            ROUNDS[0]
        };
        self.round_soon(node, wait);
    }
}
