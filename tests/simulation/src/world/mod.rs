//! The world: one queue of events in virtual time, and everybody in it. One seed is one history.

mod watch;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use afterglow_crds::inference_cluster::{InferenceClusterSpec, InferenceClusterStatus};
use afterglow_crds::{InferenceCluster, condition};
use afterglow_operator::steps;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as Stamp;

use crate::agent::{self, Machine};
use crate::api::Api;
use crate::bug::Bug;
use crate::client::{self, Counts, Request};
use crate::engine;
use crate::operator::{self, Operator};
use crate::pods::{self, Claim, Slice};
use crate::random::Random;
use crate::scheduler::{self, Scheduler};
use crate::script::{Act, Script};
use crate::time::{Clock, Time, of_day};
use crate::trace::Trace;

/// The one cluster.
pub const CLUSTER: &str = "default";
/// The namespace of the deployments.
pub const NAMESPACE: &str = "team";

/// Writes a line of the trace.
#[macro_export]
macro_rules! note {
    ($world:expr, $($what:tt)*) => {{
        let now = $world.now;
        $world.trace.note(now, format_args!($($what)*));
    }};
}

/// A process that talks to the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// An operator.
    Operator(usize),
    /// The agent of a node.
    Agent(usize),
    /// A scheduler.
    Scheduler(usize),
}

/// A kind that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watched {
    /// `ModelDeployment`.
    Deployments,
    /// `ModelReplica`.
    Replicas,
    /// `GpuNode`.
    Nodes,
    /// `Lease`.
    Leases,
}

/// What happens at some time.
#[derive(Debug)]
pub enum Event {
    /// A watch has something to tell.
    Read(Who, Watched),
    /// An operator goes on.
    Operator {
        /// Which.
        who: usize,
        /// In which life.
        life: u32,
        /// With what.
        step: operator::Step,
    },
    /// An agent goes on.
    Agent {
        /// Of which node.
        node: usize,
        /// In which life.
        life: u32,
        /// With what.
        step: agent::Step,
    },
    /// An engine goes on.
    Engine {
        /// On which node.
        node: usize,
        /// On which card.
        card: usize,
        /// Which process.
        generation: u64,
        /// With what.
        step: engine::Step,
    },
    /// A scheduler goes on.
    Scheduler {
        /// Which.
        who: usize,
        /// In which life.
        life: u32,
        /// With what.
        step: scheduler::Step,
    },
    /// A request goes on.
    Request(u64, client::Step),
    /// Kubernetes itself goes on.
    Kubernetes(pods::Step),
    /// A fault, its end, or a wish of people.
    Act(Act),
    /// All faults are over.
    Calm,
    /// It must have come to rest.
    Rest,
    /// The end.
    End,
}

/// Faults that are going on everywhere.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "faults come in any combination")]
pub struct Active {
    /// The API server is away.
    pub api_away: bool,
    /// It refuses every third call.
    pub throttled: bool,
    /// Some answers of it are lost.
    pub lost_answers: bool,
    /// Fetching and loading take long.
    pub slow_loads: bool,
    /// Fetching, probing and loading fail now and then.
    pub failing_loads: bool,
    /// Connections to engines break now and then.
    pub broken_connections: bool,
}

/// The world.
#[derive(Debug)]
pub struct World {
    /// Now.
    pub now: Time,
    /// For our code's measures of time.
    pub clock: Clock,
    /// What decides between possibilities.
    pub random: Random,
    /// The bug that is planted.
    pub bug: Option<Bug>,
    /// The API server.
    pub api: Api,
    /// The cluster, which nobody changes.
    pub cluster: InferenceCluster,
    /// Faults everywhere.
    pub active: Active,
    /// Two of them, one of which leads.
    pub operators: Vec<Operator>,
    /// The nodes.
    pub machines: Vec<Machine>,
    /// The front doors.
    pub schedulers: Vec<Scheduler>,
    /// Requests under way.
    pub requests: BTreeMap<u64, Request>,
    /// What became of requests.
    pub counts: Counts,
    /// Devices that pods want.
    pub claims: Vec<Claim>,
    /// What the slices say of devices, by node and device.
    pub slices: BTreeMap<(usize, String), Slice>,
    /// Engines that were ever started.
    pub engines_made: u64,
    /// Where time stands in the script.
    pub phase: Phase,
    /// Writes of our processes but for leases.
    pub writes: u64,
    /// Of them, those after the last fault.
    pub late_writes: u64,
    /// When the last was made.
    pub last_write: Time,
    /// What happened.
    pub trace: Trace,
    /// The first rule that was broken.
    pub violation: Option<String>,
    /// Events so far.
    pub events: u64,
    /// The last change of a replica that was checked.
    pub checked: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    pending: BTreeSet<(Who, Watched)>,
    /// What stopped operators have in hand.
    parked: Vec<(usize, Event)>,
}

/// Where time stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Faults and wishes.
    Storm,
    /// They are over: everything comes to rest.
    Calm,
    /// Nothing may be written any more.
    Rest,
}

#[derive(Debug)]
struct Entry {
    at: Time,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl World {
    /// The world of a script.
    pub fn new(script: Script, bug: Option<Bug>, keeps_lines: bool) -> Self {
        let mut cluster = InferenceCluster::new(CLUSTER, InferenceClusterSpec::default());
        // Its agents were all started once: nobody waits for them.
        let started = condition::State::new(condition::PROGRESSING, false, "Complete", "");
        cluster.status = Some(InferenceClusterStatus {
            conditions: condition::set(&[], &[started], None, Stamp(of_day(Time::ZERO, 0))),
            ..InferenceClusterStatus::default()
        });
        let clock = Clock::start();
        let mut world = Self {
            now: Time::ZERO,
            clock,
            random: Random::new(script.seed ^ 0x5eed),
            bug,
            api: Api::default(),
            cluster,
            active: Active::default(),
            operators: (0..2).map(|_| Operator::default()).collect(),
            machines: script
                .cards
                .iter()
                .enumerate()
                .map(|(index, memories)| Machine::new(index, memories))
                .collect(),
            schedulers: (0..script.schedulers)
                .map(|_| Scheduler::new(clock.instant(Time::ZERO)))
                .collect(),
            requests: BTreeMap::new(),
            counts: Counts::default(),
            claims: Vec::new(),
            slices: BTreeMap::new(),
            engines_made: 0,
            phase: Phase::Storm,
            writes: 0,
            late_writes: 0,
            last_write: Time::ZERO,
            trace: Trace::new(keeps_lines),
            violation: None,
            events: 0,
            checked: 0,
            queue: BinaryHeap::new(),
            pending: BTreeSet::new(),
            parked: Vec::new(),
        };
        for who in 0..world.operators.len() {
            world.start_operator(who);
        }
        for node in 0..world.machines.len() {
            world.start_agent(node);
        }
        for who in 0..world.schedulers.len() {
            world.start_scheduler(who);
        }
        for (at, act) in script.acts {
            world.after(at, Event::Act(act));
        }
        for step in [pods::Step::Collect, pods::Step::Allocate, pods::Step::Kubelet] {
            world.after(Duration::from_secs(1), Event::Kubernetes(step));
        }
        world.after(script.first_request, Event::Request(0, client::Step::Arrive));
        world.after(script.calm, Event::Calm);
        world.after(script.rest, Event::Rest);
        world.after(script.end, Event::End);
        world
    }

    /// Runs to the end, or to the first rule that is broken.
    pub fn run(&mut self) {
        while let Some(Reverse(entry)) = self.queue.pop() {
            self.now = entry.at;
            self.events += 1;
            if matches!(entry.event, Event::End) {
                self.check_rest();
                return;
            }
            self.dispatch(entry.event);
            if self.violation.is_none()
                && let Err(why) = self.check()
            {
                self.violate(why);
            }
            if self.violation.is_some() {
                return;
            }
        }
    }

    /// A rule was broken. The first counts.
    pub fn violate(&mut self, why: String) {
        note!(self, "BROKEN: {why}");
        self.violation.get_or_insert(why);
    }

    /// Something is to happen after a while.
    pub fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    fn at(&mut self, at: Time, event: Event) {
        let number = self.events_made();
        self.queue.push(Reverse(Entry { at, number, event }));
    }

    /// An operator that was stopped goes on, with all that it had in hand.
    pub fn continue_operator(&mut self, who: usize) {
        self.operators[who].is_stopped = false;
        let (mine, others) = std::mem::take(&mut self.parked)
            .into_iter()
            .partition(|(whose, _)| *whose == who);
        self.parked = others;
        let mine: Vec<(usize, Event)> = mine;
        for (_, event) in mine {
            self.at(self.now, event);
        }
    }

    fn events_made(&mut self) -> u64 {
        self.counts.events += 1;
        self.counts.events
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Operator { who, .. } | Event::Read(Who::Operator(who), _)
                if self.operators[who].is_stopped =>
            {
                self.parked.push((who, event));
            }
            Event::Operator { who, life, step } => self.operator_step(who, life, step),
            Event::Read(who, watched) => {
                self.pending.remove(&(who, watched));
                self.read(who, watched);
            }
            Event::Agent { node, life, step } => self.agent_step(node, life, step),
            Event::Engine {
                node,
                card,
                generation,
                step,
            } => self.engine_step(node, card, generation, step),
            Event::Scheduler { who, life, step } => self.scheduler_step(who, life, step),
            Event::Request(id, step) => self.request_step(id, step),
            Event::Kubernetes(step) => self.kubernetes_step(step),
            Event::Act(act) => self.act(act),
            Event::Calm => self.calm(),
            Event::Rest => {
                self.phase = Phase::Rest;
                self.check_converged();
            }
            Event::End => {}
        }
    }

    /// The nodes as Kubernetes knows them.
    pub fn kubernetes_nodes(&self) -> BTreeMap<String, steps::Machine> {
        self.machines
            .iter()
            .filter(|machine| !machine.gone)
            .map(|machine| (machine.name.clone(), steps::Machine::default()))
            .collect()
    }
}
