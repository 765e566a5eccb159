//! A scheduler's process: its watches and streams are modelled; what the fleet is, whom it asks and whom it leaves alone is its
//! own code.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afterglow_crds::condition::READY;
use afterglow_crds::{GpuNode, ModelDeployment, ModelReplica};
use afterglow_proto::load::{Model, Report};
use afterglow_scheduler::Fleet;
use afterglow_scheduler::fleet::from_objects;
use afterglow_scheduler::steps::Desk;

use crate::bug::Bug;
use crate::cache::Cache;
use crate::world::{CLUSTER, Event, Who, World};

/// Changes come in bursts; one view for all of a burst.
const SETTLE: Duration = Duration::from_millis(20);
const REPORT: Duration = Duration::from_secs(1);
/// Requests that wait in an engine's queue and run, at most.
pub const ROOM: u32 = 6;

/// A scheduler.
#[derive(Debug)]
pub struct Scheduler {
    /// What it does belongs to this life, or is void.
    pub life: u32,
    /// Whether its process runs.
    pub runs: bool,
    /// Whether it reaches the API server.
    pub cut: bool,
    /// By how much its watches are behind.
    pub lag: Duration,
    /// Its stores.
    pub deployments: Cache<ModelDeployment>,
    /// Its stores.
    pub replicas: Cache<ModelReplica>,
    /// Its stores.
    pub nodes: Cache<GpuNode>,
    /// What it makes of them.
    pub fleet: Arc<Fleet>,
    /// What it remembers.
    pub desk: Desk,
    /// Its connections, by the engine's address: to which process.
    pub links: BTreeMap<String, u64>,
    /// Requests that it took, and how often it sent one again.
    pub taken: (u64, u64),
    is_settling: bool,
}

impl Scheduler {
    /// One that does not run yet; its times are measured from `epoch`.
    pub fn new(epoch: Instant) -> Self {
        Self {
            life: 0,
            runs: false,
            cut: false,
            lag: Duration::ZERO,
            deployments: Cache::default(),
            replicas: Cache::default(),
            nodes: Cache::default(),
            fleet: Arc::default(),
            desk: Desk::new(epoch, 0),
            links: BTreeMap::new(),
            taken: (0, 0),
            is_settling: false,
        }
    }

    /// Whether its view is as new as its stores.
    pub fn is_settled(&self) -> bool {
        !self.is_settling
    }
}

/// What a scheduler does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Makes its view anew.
    View,
    /// Hears the nodes' load.
    Reports,
}

impl World {
    /// The process starts.
    pub fn start_scheduler(&mut self, who: usize) {
        let epoch = self.clock.instant(Duration::ZERO);
        let old = &self.schedulers[who];
        self.schedulers[who] = Scheduler {
            life: old.life + 1,
            cut: old.cut,
            lag: old.lag,
            runs: true,
            ..Scheduler::new(epoch)
        };
        crate::note!(self, "scheduler-{who} starts");
        self.scheduler_soon(who, REPORT, Step::Reports);
        self.read_soon(Who::Scheduler(who));
    }

    /// The process ends without a word; what it had in hand is lost.
    pub fn crash_scheduler(&mut self, who: usize) {
        self.schedulers[who].runs = false;
        self.schedulers[who].life += 1;
        crate::note!(self, "scheduler-{who} is killed");
        self.lose_requests(who);
    }

    fn scheduler_soon(&mut self, who: usize, wait: Duration, step: Step) {
        let life = self.schedulers[who].life;
        self.after(wait, Event::Scheduler { who, life, step });
    }

    /// Its watches have told something.
    pub fn scheduler_hears(&mut self, who: usize) {
        let scheduler = &mut self.schedulers[who];
        if !scheduler.is_settling {
            scheduler.is_settling = true;
            self.scheduler_soon(who, SETTLE, Step::View);
        }
    }

    /// What a scheduler does at its time.
    pub fn scheduler_step(&mut self, who: usize, life: u32, step: Step) {
        if self.schedulers[who].life != life || !self.schedulers[who].runs {
            return;
        }
        match step {
            Step::View => self.view(who),
            Step::Reports => {
                self.hear_load(who);
                self.keep_links(who);
                self.scheduler_soon(who, REPORT, Step::Reports);
            }
        }
    }

    fn view(&mut self, who: usize) {
        let asks_the_unready = self.bug == Some(Bug::AsksTheUnready);
        let now = self.clock.instant(self.now);
        let scheduler = &mut self.schedulers[who];
        scheduler.is_settling = false;
        // The first view is complete: one that knows half of the fleet would answer 404.
        if !(scheduler.deployments.filled && scheduler.replicas.filled && scheduler.nodes.filled) {
            return;
        }
        let mut replicas: Vec<Arc<ModelReplica>> = scheduler.replicas.objects.values().cloned().collect();
        if asks_the_unready {
            for replica in &mut replicas {
                let replica = Arc::make_mut(replica);
                replica.metadata.deletion_timestamp = None;
                for condition in replica
                    .status
                    .iter_mut()
                    .flat_map(|status| &mut status.conditions)
                {
                    if condition.type_ == READY {
                        "True".clone_into(&mut condition.status);
                    }
                }
            }
        }
        let nodes: Vec<Arc<GpuNode>> = scheduler.nodes.objects.values().cloned().collect();
        let deployments: Vec<Arc<ModelDeployment>> =
            scheduler.deployments.objects.values().cloned().collect();
        let fleet = from_objects(CLUSTER, &replicas, &nodes, &deployments);
        if fleet != *scheduler.fleet {
            scheduler.desk.follow(&fleet, now);
            let ready = fleet.replicas().count();
            scheduler.fleet = Arc::new(fleet);
            crate::note!(self, "scheduler-{who} sees {ready} replicas");
            self.keep_links(who);
        }
    }

    /// Connects to the fleet's engines, and learns which cannot be reached.
    fn keep_links(&mut self, who: usize) {
        let now = self.clock.instant(self.now);
        let fleet = self.schedulers[who].fleet.clone();
        let engines: BTreeMap<String, Option<u64>> = fleet
            .replicas()
            .map(|replica| {
                (
                    replica.grpc.clone(),
                    self.engine_at(&replica.node, &replica.device),
                )
            })
            .collect();
        let links = &mut self.schedulers[who].links;
        links.retain(|address, _| engines.contains_key(address));
        for (address, engine) in engines {
            let breaks = self.active.broken_connections && self.random.chance(10);
            let scheduler = &mut self.schedulers[who];
            match engine.filter(|_| !breaks) {
                Some(generation) => {
                    if scheduler.links.insert(address.clone(), generation) != Some(generation) {
                        scheduler.desk.reached(&address, now);
                    }
                }
                None => self.lose_link(who, &address),
            }
        }
    }

    /// A connection to an engine is lost, or could not be made.
    pub(crate) fn lose_link(&mut self, who: usize, address: &str) {
        let now = self.clock.instant(self.now);
        let scheduler = &mut self.schedulers[who];
        scheduler.links.remove(address);
        scheduler.desk.unreachable(address, now);
    }

    /// The process of a device's engine, where schedulers reach it.
    pub(crate) fn engine_at(&self, node: &str, device: &str) -> Option<u64> {
        let machine = self.machines.iter().find(|machine| machine.name == node)?;
        let card = &machine.cards[machine.card(device)?];
        let is_reached = machine.powered && !machine.unreachable;
        let engine = card.engine.as_ref().filter(|engine| engine.is_up)?;
        is_reached.then_some(engine.generation)
    }

    fn hear_load(&mut self, who: usize) {
        let now = self.clock.instant(self.now);
        for (node, machine) in self.machines.iter().enumerate() {
            let streams = machine.powered && !machine.unreachable && machine.agent.is_some();
            if !streams || !self.schedulers[who].fleet.load.contains_key(&machine.name) {
                continue;
            }
            let models = machine
                .cards
                .iter()
                .flat_map(|card| {
                    let engine = card.engine.as_ref().filter(|engine| engine.is_up);
                    engine
                        .into_iter()
                        .flat_map(|engine| &engine.models)
                        .map(|(name, loaded)| Model {
                            name: name.clone(),
                            ready: true,
                            device: card.name.clone(),
                            running: loaded.running,
                            max_batch_size: 4,
                            run_microseconds: 5000,
                            ..Model::default()
                        })
                })
                .collect();
            let report = Report {
                sequence: 1,
                node: machine.name.clone(),
                models,
                draining: false,
            };
            self.schedulers[who]
                .desk
                .report(&self.machines[node].name, &report, now);
        }
    }
}
