//! What Kubernetes does by itself: it collects what lost its owner, gives devices to pods that claim them, and forgets nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use afterglow_agent::lend::State as Lending;
use afterglow_operator::steps::Key;
use kube::ResourceExt as _;

use crate::api::Only;
use crate::bug::Bug;
use crate::time::Time;
use crate::trace::Sight;
use crate::world::{Event, World};

const COLLECT: Duration = Duration::from_secs(1);
const ALLOCATE: Duration = Duration::from_secs(2);
const KUBELET: Duration = Duration::from_secs(3);

/// A pod's wish for a device.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Its number.
    pub id: u64,
    /// Until then the pod wants to run.
    pub until: Time,
    /// What it was given.
    pub place: Option<(usize, String)>,
}

/// What the slices say of a device.
#[derive(Debug, Clone, Copy, Default)]
pub struct Slice {
    /// Whether it is kept from claims.
    tainted: bool,
    before: bool,
    changed: Time,
    /// How long the allocator takes to hear of a change.
    lag: Time,
}

/// What Kubernetes does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Deletes what lost its owner.
    Collect,
    /// Gives devices to claims.
    Allocate,
    /// Starts and ends pods.
    Kubelet,
}

impl World {
    /// What Kubernetes does at its time.
    pub fn kubernetes_step(&mut self, step: Step) {
        let wait = match step {
            Step::Collect => {
                self.collect();
                COLLECT
            }
            Step::Allocate => {
                self.allocate();
                ALLOCATE
            }
            Step::Kubelet => {
                self.run_pods();
                KUBELET
            }
        };
        self.after(wait, Event::Kubernetes(step));
    }

    fn collect(&mut self) {
        let orphans: Vec<Key> = self
            .api
            .replicas
            .objects
            .iter()
            .filter(|(_, replica)| replica.metadata.deletion_timestamp.is_none())
            .filter(|(_, replica)| {
                let mut owners = replica.owner_references().iter();
                !owners.any(|owner| {
                    self.api
                        .deployments
                        .objects
                        .values()
                        .any(|deployment| deployment.uid().as_ref() == Some(&owner.uid))
                })
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in orphans {
            crate::note!(self, "{} has lost its owner", key.name);
            self.trace.saw(Sight::Collected);
            let _ = self.people(|world| {
                let (replicas, moment) = world.api.replicas(world.now);
                replicas.delete(moment, &key, &Only::default())
            });
        }
    }

    /// Claims on a node's devices, by device.
    pub(crate) fn claims_on(&self, node: usize) -> BTreeMap<String, usize> {
        let mut claims = BTreeMap::new();
        for (_, device) in self
            .claims
            .iter()
            .filter_map(|claim| claim.place.as_ref())
            .filter(|(place, _)| *place == node)
        {
            *claims.entry(device.clone()).or_default() += 1;
        }
        claims
    }

    /// What an agent publishes of a device.
    pub(crate) fn publish(&mut self, node: usize, device: &str, tainted: bool) {
        let (now, lag) = (self.now, self.random.milliseconds(10, 3000));
        let slice = self.slices.entry((node, device.to_owned())).or_insert(Slice {
            tainted,
            before: true,
            changed: now,
            lag,
        });
        if slice.tainted != tainted {
            *slice = Slice {
                tainted,
                before: slice.tainted,
                changed: now,
                lag,
            };
        }
    }

    fn allocate(&mut self) {
        for index in 0..self.claims.len() {
            if self.claims[index].place.is_some() {
                continue;
            }
            let free: Vec<(usize, String)> = self
                .slices
                .iter()
                .filter(|((node, _), slice)| {
                    let heard = self.now.saturating_sub(slice.changed) >= slice.lag;
                    let tainted = if heard { slice.tainted } else { slice.before };
                    !tainted && !self.machines[*node].gone
                })
                .map(|(place, _)| place.clone())
                .filter(|place| {
                    self.claims
                        .iter()
                        .all(|claim| claim.place.as_ref() != Some(place))
                })
                .collect();
            if free.is_empty() {
                continue;
            }
            let place = free[self.random.place(free.len())].clone();
            crate::note!(
                self,
                "claim {} gets node-{}/{}",
                self.claims[index].id,
                place.0,
                place.1
            );
            self.claims[index].place = Some(place);
        }
    }

    fn run_pods(&mut self) {
        let ended: Vec<Claim> = self
            .claims
            .iter()
            .filter(|claim| claim.until <= self.now)
            .cloned()
            .collect();
        for claim in ended {
            for machine in &mut self.machines {
                for card in machine.cards.iter_mut().filter(|card| card.pod == Some(claim.id)) {
                    card.pod = None;
                }
            }
            self.claims.retain(|known| known.id != claim.id);
        }
        for claim in self.claims.clone() {
            let Some((node, device)) = claim.place else {
                continue;
            };
            let machine = &mut self.machines[node];
            let Some(card) = machine.card(&device) else {
                continue;
            };
            if !machine.powered || machine.cards[card].pod == Some(claim.id) {
                continue;
            }
            // The agent's plugin hands over what does not serve models, where no engine still ends, and nothing twice.
            let Some(agent) = &machine.agent else { continue };
            let Some(state) = agent.ledger.get(&device) else {
                continue;
            };
            let has_engine = machine.cards[card].engine.is_some();
            let serves = matches!(state, Lending::Serving | Lending::Draining) || has_engine;
            let is_careless = self.bug == Some(Bug::HandsOverTooEarly);
            if (serves && !is_careless) || machine.cards[card].pod.is_some() {
                continue;
            }
            machine.cards[card].pod = Some(claim.id);
            self.trace.saw(Sight::HandedOver);
            crate::note!(self, "claim {} holds node-{node}/{device}", claim.id);
        }
    }
}
