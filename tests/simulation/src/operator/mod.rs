//! The operator's process: its stores, its queue and its writes are modelled, what it decides is its own code.

mod lead;
mod sweep;
mod turn;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use afterglow_crds::{GpuNode, ModelDeployment, ModelReplica, labels};
use afterglow_operator::steps::{self, Expectations, Judgement, Key, Observer, Pace, Progress};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::ResourceExt as _;

use crate::cache::{Cache, News};
use crate::time::Time;
use crate::trace::Sight;
use crate::world::{Event, World};
use turn::Turn;

/// One operator.
#[derive(Debug, Default)]
pub struct Operator {
    /// What it does belongs to this life or term, or is void.
    pub life: u32,
    /// Whether its process runs.
    pub runs: bool,
    /// Stopped (SIGSTOP): what it has in hand it does when it goes on.
    pub is_stopped: bool,
    /// It is killed after so many more writes.
    pub dies_after: Option<u64>,
    /// Whether it reaches the API server.
    pub cut: bool,
    /// By how much its watches are behind.
    pub lag: Duration,
    /// Seconds that its clock is off.
    pub skew: i64,
    seen: Option<(LeaseSpec, tokio::time::Instant)>,
    /// While it leads.
    pub term: Option<Term>,
}

/// A term as the leader.
#[derive(Debug)]
pub struct Term {
    lead: steps::Term,
    /// Its stores.
    pub deployments: Cache<ModelDeployment>,
    /// Its stores.
    pub replicas: Cache<ModelReplica>,
    /// Its stores.
    pub nodes: Cache<GpuNode>,
    /// Its stores.
    pub leases: Cache<Lease>,
    begun: bool,
    observer: Observer,
    judgement: Arc<Judgement>,
    expectations: Expectations,
    progress: Progress,
    pace: Pace,
    queue: VecDeque<Key>,
    running: BTreeMap<Key, Turn>,
    timers: BTreeMap<Key, Time>,
}

impl Term {
    /// One that begins now, and knows nothing yet.
    fn new(now: tokio::time::Instant) -> Self {
        Self {
            lead: steps::Term::new(now),
            deployments: Cache::default(),
            replicas: Cache::default(),
            nodes: Cache::default(),
            leases: Cache::default(),
            begun: false,
            observer: Observer::default(),
            judgement: Arc::default(),
            expectations: Expectations::default(),
            progress: Progress::default(),
            pace: Pace::default(),
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            timers: BTreeMap::new(),
        }
    }
}

/// What an operator does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Tries to lead.
    Campaign,
    /// Renews the lease.
    Renew,
    /// Has not been able to.
    NotRenewed,
    /// Looks at the agents' leases.
    Judge,
    /// Takes deployments out of the queue.
    Work,
    /// Makes the next write of a deployment's turn.
    Write(Key),
    /// Looks at a deployment again.
    Again(Key),
    /// Looks for replicas that nobody lets go.
    Sweep,
}

impl World {
    /// The process starts.
    pub fn start_operator(&mut self, who: usize) {
        let operator = &mut self.operators[who];
        operator.life += 1;
        operator.runs = true;
        operator.term = None;
        operator.seen = None;
        // What it had in hand when it was stopped is void: it is another process.
        self.continue_operator(who);
        self.operator_soon(who, Duration::from_millis(300), Step::Campaign);
        crate::note!(self, "operator-{who} starts");
    }

    /// The process ends without a word.
    pub fn crash_operator(&mut self, who: usize) {
        let operator = &mut self.operators[who];
        operator.dies_after = None;
        let mut turns = operator.term.iter().flat_map(|term| term.running.values());
        let between = turns.any(|turn| !turn.made.is_empty());
        operator.life += 1;
        operator.runs = false;
        operator.term = None;
        if between {
            self.trace.saw(Sight::CrashBetweenWrites);
        }
        crate::note!(self, "operator-{who} is killed");
    }

    fn operator_soon(&mut self, who: usize, wait: Duration, step: Step) {
        let life = self.operators[who].life;
        self.after(wait, Event::Operator { who, life, step });
    }

    /// What an operator does at its time.
    pub fn operator_step(&mut self, who: usize, life: u32, step: Step) {
        if self.operators[who].life != life || !self.operators[who].runs {
            return;
        }
        match step {
            Step::Campaign => self.campaign(who),
            Step::Renew => self.renew(who),
            Step::NotRenewed => self.not_renewed(who),
            Step::Judge => self.judge(who),
            Step::Work => self.work(who),
            Step::Write(key) => self.write(who, &key),
            Step::Again(key) => {
                let now = self.now;
                let Some(term) = &mut self.operators[who].term else {
                    return;
                };
                // A later wish for an earlier look replaced this one.
                if term.timers.get(&key).is_some_and(|at| *at <= now) {
                    term.timers.remove(&key);
                    self.ask(who, &key);
                }
            }
            Step::Sweep => self.sweep(who),
        }
    }
    /// What a watch has told concerns these.
    pub fn operator_hears_of_deployments(&mut self, who: usize, news: &[News<ModelDeployment>]) {
        for one in news {
            match one {
                News::Object(deployment) | News::Gone(deployment) => {
                    self.ask(who, &Key::of(&**deployment));
                    let name = model_name(deployment);
                    let Some(term) = &self.operators[who].term else {
                        return;
                    };
                    let rivals: Vec<Key> = term
                        .deployments
                        .objects
                        .iter()
                        .filter(|(_, other)| model_name(other) == name)
                        .map(|(key, _)| key.clone())
                        .collect();
                    for rival in rivals {
                        self.ask(who, &rival);
                    }
                }
                News::Anything => self.ask_all(who),
            }
        }
        self.begin_term(who);
    }

    /// As above.
    pub fn operator_hears_of_replicas(&mut self, who: usize, news: &[News<ModelReplica>]) {
        for one in news {
            match one {
                News::Object(replica) => {
                    if let (Some(namespace), Some(name)) =
                        (replica.namespace(), replica.labels().get(labels::DEPLOYMENT))
                    {
                        self.ask(who, &Key::within(namespace, name));
                    }
                    if replica.metadata.deletion_timestamp.is_some() {
                        self.sweep_now(who);
                    }
                }
                // Memory has come free: somebody may wait for it.
                News::Gone(_) => self.ask_all(who),
                News::Anything => {
                    self.ask_all(who);
                    self.sweep_now(who);
                }
            }
        }
        self.begin_term(who);
    }

    /// As above.
    pub fn operator_hears_of_nodes(&mut self, who: usize) {
        self.ask_all(who);
        self.begin_term(who);
    }

    /// As above: a renewal is no news.
    pub fn operator_hears_of_leases(&mut self, who: usize) {
        self.begin_term(who);
    }

    fn ask_all(&mut self, who: usize) {
        let Some(term) = &self.operators[who].term else {
            return;
        };
        let keys: Vec<Key> = term.deployments.objects.keys().cloned().collect();
        for key in keys {
            self.ask(who, &key);
        }
    }

    fn ask(&mut self, who: usize, key: &Key) {
        let Some(term) = &mut self.operators[who].term else {
            return;
        };
        if !term.queue.contains(key) {
            term.queue.push_back(key.clone());
            // Events that belong together are one turn.
            self.operator_soon(who, Duration::from_millis(50), Step::Work);
        }
    }
}

fn model_name(deployment: &ModelDeployment) -> String {
    deployment
        .spec
        .model
        .name
        .clone()
        .unwrap_or_else(|| deployment.name_any())
}
