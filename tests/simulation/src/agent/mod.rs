//! A node and its agent's process: what it knows, offers and writes. To whom a device belongs, what is said of a node, what of a
//! replica is to be written, and what a new list of wishes changes, is decided by the agent's own code.

mod offer;
mod writer;

use std::collections::BTreeMap;
use std::time::Duration;

use afterglow_agent::host::{self, Reported, Statuses};
use afterglow_agent::lend::State as Lending;
use afterglow_agent::replicas::{Table, Written};
use afterglow_crds::gpu_node::Device;
use afterglow_crds::{GpuNode, ModelReplica, labels};
use afterglow_operator::steps::Key;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::runtime::watcher;

use crate::api::Only;
use crate::cache::{Cache, News};
use crate::engine::Engine;
use crate::resident::Resident;
use crate::time::{Time, of_day};
use crate::world::{Event, Who, World};

const RENEW: Duration = Duration::from_secs(10);
const RENEW_AGAIN: Duration = Duration::from_secs(3);
const TIDY: Duration = Duration::from_secs(5);
/// A node.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fault that comes and goes by itself"
)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Whether it has power.
    pub powered: bool,
    /// Never to come back.
    pub gone: bool,
    /// Whether it reaches the API server.
    pub cut: bool,
    /// Whether schedulers reach it.
    pub unreachable: bool,
    /// By how much its agent's watches are behind.
    pub lag: Duration,
    /// Seconds that its clock is off.
    pub skew: i64,
    /// Its cards.
    pub cards: Vec<Card>,
    /// Its agent, while that runs.
    pub agent: Option<Agent>,
    /// What the agent does belongs to this life, or is void.
    pub life: u32,
}

/// A card.
#[derive(Debug)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Its memory.
    pub memory: u64,
    /// The engine's process, or what is to become one.
    pub engine: Option<Engine>,
    /// The claim whose pod uses it.
    pub pod: Option<u64>,
}

/// An agent's process.
#[derive(Debug, Default)]
pub struct Agent {
    /// Its watch of replicas.
    pub replicas: Cache<ModelReplica>,
    table: Table,
    /// Its watch of its own `GpuNode`.
    pub nodes: Cache<GpuNode>,
    /// What it is to host.
    pub desired: Vec<ModelReplica>,
    /// What it hosts.
    pub residents: BTreeMap<host::Key, Resident>,
    /// How that is.
    pub statuses: Statuses,
    written: BTreeMap<host::Key, Written>,
    is_writing: bool,
    is_found: bool,
    /// To whom devices belong, as published.
    pub lending: Option<BTreeMap<String, Lending>>,
    /// As the part that hands over knows it.
    pub ledger: BTreeMap<String, Lending>,
    /// The devices as engines may use them.
    pub usable: Vec<Device>,
    round: u32,
    watchful: u32,
    jobs: u64,
}

/// What an agent does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Has found and tested the devices.
    Found,
    /// Tells the cluster what there is, if this is still the next round.
    Round(u32),
    /// Publishes the slice, the last part of a round.
    Slice(BTreeMap<String, Lending>, u32),
    /// Renews its lease.
    Renew,
    /// Writes what is due of the replicas.
    Write,
    /// Stops engines that nobody needs.
    Tidy,
    /// Goes on with a replica's work, if that is still the same.
    Work(host::Key, u64, crate::resident::Part),
}

impl World {
    /// The agent starts.
    pub fn start_agent(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if !machine.powered || machine.agent.is_some() {
            return;
        }
        machine.life += 1;
        machine.agent = Some(Agent::default());
        crate::note!(self, "agent of node-{node} starts");
        let found = self.random.seconds(3, 15);
        self.agent_soon(node, found, Step::Found);
        self.agent_soon(node, TIDY, Step::Tidy);
        self.read_soon(Who::Agent(node));
    }

    /// The agent ends without a word, and with it its engines.
    pub fn crash_agent(&mut self, node: usize) {
        for card in 0..self.machines[node].cards.len() {
            self.end_engine(node, card);
        }
        let machine = &mut self.machines[node];
        machine.life += 1;
        machine.agent = None;
        crate::note!(self, "agent of node-{node} is killed");
    }

    /// The node loses power.
    pub fn cut_power(&mut self, node: usize) {
        self.crash_agent(node);
        let machine = &mut self.machines[node];
        machine.powered = false;
        for card in &mut machine.cards {
            card.pod = None;
        }
        crate::note!(self, "node-{node} is off");
    }

    pub(crate) fn agent_soon(&mut self, node: usize, wait: Duration, step: Step) {
        let life = self.machines[node].life;
        self.after(wait, Event::Agent { node, life, step });
    }

    /// What an agent does at its time.
    pub fn agent_step(&mut self, node: usize, life: u32, step: Step) {
        if self.machines[node].life != life {
            return;
        }
        let Some(agent) = &mut self.machines[node].agent else {
            return;
        };
        match step {
            Step::Found => {
                agent.is_found = true;
                self.round_soon(node, Duration::ZERO);
                self.agent_soon(node, Duration::from_millis(500), Step::Renew);
            }
            Step::Round(round) if round == agent.round => self.round(node),
            Step::Slice(states, round) if round == agent.round => self.slice(node, &states),
            Step::Round(_) | Step::Slice(..) => {}
            Step::Renew => self.sign(node),
            Step::Write => self.agent_writes(node),
            Step::Tidy => {
                self.tidy(node);
                self.agent_soon(node, TIDY, Step::Tidy);
            }
            Step::Work(key, job, part) => self.go_on(node, &key, job, part),
        }
    }

    /// What its watch has told.
    pub fn agent_hears_of_replicas(&mut self, node: usize, news: Vec<News<ModelReplica>>) {
        let name = self.machines[node].name.clone();
        let Some(agent) = &mut self.machines[node].agent else {
            return;
        };
        let mine = |replica: &ModelReplica| replica.spec.node_name == name;
        let mut changed = false;
        for one in news {
            match one {
                News::Object(replica) if mine(&replica) => {
                    changed |= agent
                        .table
                        .take(watcher::Event::Apply(ModelReplica::clone(&replica)));
                }
                News::Gone(replica) if mine(&replica) => {
                    changed |= agent
                        .table
                        .take(watcher::Event::Delete(ModelReplica::clone(&replica)));
                }
                News::Anything => {
                    agent.table.take(watcher::Event::Init);
                    for replica in agent.replicas.objects.values().filter(|replica| mine(replica)) {
                        let replica = ModelReplica::clone(replica);
                        agent.table.take(watcher::Event::InitApply(replica));
                    }
                    changed |= agent.table.take(watcher::Event::InitDone);
                }
                News::Object(_) | News::Gone(_) => {}
            }
        }
        if changed {
            agent.desired = agent.table.known.values().cloned().collect();
            self.host_reconciles(node);
            self.writes_soon(node);
        }
    }

    /// Its own `GpuNode` was touched: it looks at once.
    pub fn agent_hears_of_nodes(&mut self, node: usize, news: &[News<GpuNode>]) {
        let name = &self.machines[node].name;
        let touched = news.iter().any(|one| match one {
            News::Object(object) | News::Gone(object) => object.metadata.name.as_ref() == Some(name),
            News::Anything => true,
        });
        if touched {
            self.round_soon(node, Duration::ZERO);
        }
    }
    fn sign(&mut self, node: usize) {
        let name = self.machines[node].name.clone();
        let key = Key::within("system", labels::lease(&name));
        let spec = LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(30),
            renew_time: Some(MicroTime(of_day(self.now, self.machines[node].skew))),
            ..LeaseSpec::default()
        };
        let renewed = self.call(Who::Agent(node), |world| {
            let is_there = world.api.leases.objects.contains_key(&key);
            let (leases, moment) = world.api.leases(world.now);
            if is_there {
                return leases.update(moment, &key, &Only::default(), false, |lease| {
                    lease.spec = Some(spec);
                });
            }
            let mut lease = Lease::default();
            lease.metadata.name = Some(key.name.clone());
            lease.metadata.namespace.clone_from(&key.namespace);
            lease.spec = Some(spec);
            leases.create(moment, lease)
        });
        let wait = if renewed.is_ok() { RENEW } else { RENEW_AGAIN };
        self.agent_soon(node, wait, Step::Renew);
    }

    /// A number for a replica's next work: what was begun before is void.
    pub(crate) fn new_job(&mut self, node: usize) -> u64 {
        self.machines[node].agent.as_mut().map_or(0, |agent| {
            agent.jobs += 1;
            agent.jobs
        })
    }

    /// Puts what is so of a replica where the writer finds it.
    pub(crate) fn tell_of(&mut self, node: usize, key: host::Key, reported: Reported) {
        let Some(agent) = &mut self.machines[node].agent else {
            return;
        };
        if agent.statuses.get(&key) != Some(&reported) {
            agent.statuses.insert(key, reported);
            self.writes_soon(node);
        }
    }
}

impl Machine {
    /// A node with these cards.
    pub fn new(index: usize, memories: &[u64]) -> Self {
        Self {
            name: format!("node-{index}"),
            powered: true,
            gone: false,
            cut: false,
            unreachable: false,
            lag: Time::ZERO,
            skew: 0,
            cards: memories
                .iter()
                .enumerate()
                .map(|(place, memory)| Card {
                    name: format!("gpu-{place}"),
                    memory: *memory,
                    engine: None,
                    pod: None,
                })
                .collect(),
            agent: None,
            life: 0,
        }
    }

    /// The place of a card.
    pub fn card(&self, name: &str) -> Option<usize> {
        self.cards.iter().position(|card| card.name == name)
    }
}
