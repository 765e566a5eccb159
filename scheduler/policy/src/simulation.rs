//! A small fleet lives through silent nodes, new revisions and changes of scale; `rollout` and `place` decide together.

use proptest::prelude::*;

use crate::place::{Closed, Device, Fleet, Kind, Node, Resident, Wish, place};
use crate::rollout::{Replica, Wanted, step};

#[derive(Debug, Clone)]
enum Event {
    Silence(usize),
    Return(usize),
    Revise(usize),
    Scale(usize, u32),
}

/// A replica and where it is.
#[derive(Debug, Clone)]
struct Placed {
    deployment: usize,
    replica: Replica,
    place: (String, String),
}

#[derive(Debug)]
struct World {
    /// Without residents: those are the replicas.
    fleet: Fleet,
    /// What is wanted, and the bytes that each replica needs.
    deployments: Vec<(Wanted, u64)>,
    replicas: Vec<Placed>,
    made: usize,
}

impl World {
    fn new(nodes: &[Vec<u64>], deployments: &[(u32, u32, u32, u64)]) -> Self {
        let device = |memory: u64| Device {
            kind: Kind::Gpu,
            family: "Polaris".to_owned(),
            memory,
            offered: Ok(()),
            gflops: 0,
            residents: Vec::new(),
        };
        let node = |devices: &Vec<u64>| Node {
            devices: devices
                .iter()
                .enumerate()
                .map(|(index, memory)| (format!("gpu-{index}"), device(*memory)))
                .collect(),
            ..Node::default()
        };
        Self {
            fleet: Fleet {
                nodes: nodes
                    .iter()
                    .enumerate()
                    .map(|(index, devices)| (format!("n{index}"), node(devices)))
                    .collect(),
            },
            deployments: deployments
                .iter()
                .map(|(replicas, max_surge, max_unavailable, memory)| {
                    let wanted = Wanted {
                        revision: 1,
                        replicas: *replicas,
                        max_surge: *max_surge,
                        max_unavailable: *max_unavailable,
                    };
                    (wanted, *memory)
                })
                .collect(),
            replicas: Vec::new(),
            made: 0,
        }
    }

    fn happen(&mut self, event: &Event) {
        let nodes = self.fleet.nodes.len();
        match event {
            Event::Silence(index) | Event::Return(index) => {
                let closed = matches!(event, Event::Silence(_)).then_some(Closed::Silent);
                if let Some(node) = self.fleet.nodes.values_mut().nth(index % nodes) {
                    node.closed = closed;
                }
            }
            Event::Revise(index) => {
                let all = self.deployments.len();
                self.deployments[index % all].0.revision += 1;
            }
            Event::Scale(index, replicas) => {
                let all = self.deployments.len();
                self.deployments[index % all].0.replicas = *replicas;
            }
        }
        for placed in &mut self.replicas {
            placed.replica.lost = self.fleet.nodes[&placed.place.0].closed.is_some();
        }
    }

    /// The fleet with what is on it, also what is on its way out.
    fn occupied(&self) -> Fleet {
        let mut fleet = self.fleet.clone();
        for placed in &self.replicas {
            let node = fleet.nodes.get_mut(&placed.place.0).unwrap();
            node.devices
                .get_mut(&placed.place.1)
                .unwrap()
                .residents
                .push(Resident {
                    deployment: format!("team/{}", placed.deployment),
                    digest: String::new(),
                    memory: self.deployments[placed.deployment].1,
                });
        }
        fleet
    }

    fn wish(&self, deployment: usize) -> Wish {
        Wish {
            deployment: format!("team/{deployment}"),
            memory: self.deployments[deployment].1,
            ..Wish::default()
        }
    }

    fn of(&self, deployment: usize) -> Vec<Replica> {
        self.replicas
            .iter()
            .filter(|placed| placed.deployment == deployment)
            .map(|placed| placed.replica.clone())
            .collect()
    }

    /// Decides once for a deployment, and carries it out.
    fn reconcile(&mut self, deployment: usize) {
        let wanted = self.deployments[deployment].0;
        let now = step(&self.of(deployment), wanted);
        for placed in &mut self.replicas {
            placed.replica.leaving |= now.delete.contains(&placed.replica.name);
        }
        for _ in 0..now.create {
            let Ok(found) = place(&self.occupied(), &self.wish(deployment)) else {
                break;
            };
            self.made += 1;
            self.replicas.push(Placed {
                deployment,
                replica: Replica {
                    name: format!("{deployment}-{}-{:04}", wanted.revision, self.made),
                    revision: wanted.revision,
                    ready: false,
                    failed: false,
                    lost: false,
                    leaving: false,
                },
                place: (found.node, found.device),
            });
        }
    }

    /// Agents do their work: what leaves is gone, what loads is ready.
    fn pass(&mut self) {
        self.replicas.retain(|placed| !placed.replica.leaving);
        for placed in &mut self.replicas {
            placed.replica.ready |= !placed.replica.lost;
        }
    }

    fn serving(&self, deployment: usize) -> usize {
        let serves = |replica: &Replica| replica.ready && !replica.lost && !replica.leaving;
        self.of(deployment)
            .iter()
            .filter(|replica| serves(replica))
            .count()
    }

    fn overcommitted(&self) -> Option<String> {
        let fleet = self.occupied();
        fleet.nodes.iter().find_map(|(name, node)| {
            node.devices.iter().find_map(|(device_name, device)| {
                let used: u64 = device.residents.iter().map(|resident| resident.memory).sum();
                (used > device.memory).then(|| format!("{name}/{device_name}: {used} of {}", device.memory))
            })
        })
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..4_usize).prop_map(Event::Silence),
        (0..4_usize).prop_map(Event::Return),
        (0..3_usize).prop_map(Event::Revise),
        (0..3_usize, 0..5_u32).prop_map(|(index, replicas)| Event::Scale(index, replicas)),
    ]
}

proptest! {
    #[test]
    fn a_fleet_lives_through_anything_without_promising_memory_twice_or_letting_go_of_what_must_serve(
        nodes in prop::collection::vec(prop::collection::vec(1..9_u64, 0..3), 1..5),
        deployments in prop::collection::vec((0..4_u32, 0..3_u32, 0..3_u32, 1..5_u64), 1..4),
        events in prop::collection::vec(event(), 0..24),
    ) {
        let mut world = World::new(&nodes, &deployments);
        let nodes_return = (0..4).map(Event::Return);
        let quiet = std::iter::repeat_n(Event::Return(0), 48);
        for event in events.into_iter().chain(nodes_return).chain(quiet) {
            world.happen(&event);
            for deployment in 0..world.deployments.len() {
                let wanted = world.deployments[deployment].0;
                let floor = wanted.replicas.saturating_sub(wanted.max_unavailable) as usize;
                let before = world.serving(deployment).min(floor);
                world.reconcile(deployment);
                prop_assert!(world.serving(deployment) >= before, "{event:?} cost deployment {deployment} too much");
                prop_assert_eq!(world.overcommitted(), None);
            }
            world.pass();
        }
        for deployment in 0..world.deployments.len() {
            let wanted = world.deployments[deployment].0;
            let replicas = world.of(deployment);
            let now = step(&replicas, wanted);
            if now.is_empty() {
                prop_assert_eq!(replicas.len(), wanted.replicas as usize);
                prop_assert!(replicas.iter().all(|replica| replica.ready && replica.revision == wanted.revision));
            } else {
                prop_assert_eq!(&now.delete, &Vec::<String>::new(), "still busy: {:?}", replicas);
                let refused = place(&world.occupied(), &world.wish(deployment));
                prop_assert!(refused.is_err(), "there is room, and nothing is made: {replicas:?}");
            }
        }
    }
}
