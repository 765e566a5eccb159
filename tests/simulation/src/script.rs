//! What happens to a world from outside, drawn from its seed: how large it is, what people wish, and which faults strike. Each
//! seed has a few kinds of faults, not all: a storm of everything hides what two faults do to each other.

use std::time::Duration;

use afterglow_crds::model_deployment::{ModelDeploymentSpec, Rollout};
use afterglow_crds::{GpuNode, ModelDeployment};
use afterglow_operator::steps::Key;

use crate::api::Only;
use crate::pods::Claim;
use crate::random::Random;
use crate::time::Time;
use crate::trace::Sight;
use crate::world::{CLUSTER, NAMESPACE, Phase, Who, World};

const GIB: u64 = 1 << 30;
/// Faults and wishes end here.
const CALM: Duration = Duration::from_mins(6);
/// By then everything is at rest: the longest pause of a failed load and of a failed turn is five minutes.
const REST: Duration = Duration::from_mins(19);
const END: Duration = Duration::from_mins(24);

/// The history of a world, as far as it is written beforehand.
#[derive(Debug, Clone)]
pub struct Script {
    /// What it was drawn from.
    pub seed: u64,
    /// Memory of the cards of each node.
    pub cards: Vec<Vec<u64>>,
    /// How many front doors.
    pub schedulers: usize,
    /// Faults, their ends, and wishes.
    pub acts: Vec<(Time, Act)>,
    /// When clients begin.
    pub first_request: Time,
    /// When faults and wishes end.
    pub calm: Time,
    /// When all must be at rest.
    pub rest: Time,
    /// When it ends.
    pub end: Time,
}

/// Something from outside.
#[derive(Debug, Clone)]
pub enum Act {
    /// A fault begins.
    Begin(Fault),
    /// A fault ends.
    End(Fault),
    /// People wish for something.
    Wish(Wish),
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A process is killed, and started again at the end.
    Crash(Who),
    /// An operator is killed after so many more writes, and started again at the end.
    CrashAtWrite(usize, u64),
    /// An operator is stopped, and goes on at the end with what it had in hand.
    Stop(usize),
    /// A process does not reach the API server.
    Cut(Who),
    /// A process' watches are behind.
    Lag(Who),
    /// A process' clock jumps, and is wrong by so many seconds from then on.
    Skew(Who, i64),
    /// The API server forgets the changes that watches have not read.
    Compact,
    /// An engine dies.
    KillEngine(usize, usize),
    /// Schedulers do not reach a node.
    Unreachable(usize),
    /// A node has no power.
    PowerCut(usize),
    /// A node is gone for ever.
    Gone(usize),
    /// The API server is away.
    ApiAway,
    /// It refuses calls.
    Throttle,
    /// Its answers get lost.
    LoseAnswers,
    /// Loading takes long.
    SlowLoads,
    /// Loading fails.
    FailingLoads,
    /// Connections to engines break.
    BreakConnections,
}

/// What people do.
#[derive(Debug, Clone)]
pub enum Wish {
    /// They deploy a model, or another under its name.
    Deploy(usize, Box<ModelDeploymentSpec>),
    /// They want another number of replicas.
    Scale(usize, i32),
    /// They want another file served.
    Revise(usize, u64, bool),
    /// They free its devices, or do not any more.
    Suspend(usize, bool),
    /// They delete it.
    Delete(usize),
    /// They keep a device for other pods, or do not any more.
    Lend(usize, usize, bool),
    /// They cordon a node, or do not any more.
    Cordon(usize, bool),
    /// Somebody's pod wants a device, for so many seconds.
    Claim(u64),
}

impl Script {
    /// The history of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let nodes = random.between(2, 4) as usize;
        let cards: Vec<Vec<u64>> = (0..nodes)
            .map(|_| {
                (0..random.between(1, 3))
                    .map(|_| random.between(1, 2) * 4 * GIB)
                    .collect()
            })
            .collect();
        let schedulers = random.between(1, 2) as usize;
        let mut acts = Vec::new();
        let deployments = random.between(1, 4) as usize;
        for index in 0..deployments {
            let spec = deployment(&mut random, index);
            acts.push((
                random.seconds(0, 40),
                Act::Wish(Wish::Deploy(index, Box::new(spec))),
            ));
        }
        for _ in 0..random.between(2, 10) {
            let wish = wish(&mut random, deployments, &cards);
            acts.push((random.seconds(30, 350), Act::Wish(wish)));
        }
        let kinds: Vec<u64> = (0..18).filter(|_| random.chance(35)).collect();
        let strikes = if kinds.is_empty() {
            0
        } else {
            random.between(3, 14)
        };
        for _ in 0..strikes {
            let kind = kinds[random.place(kinds.len())];
            let fault = fault(&mut random, kind, &cards, schedulers);
            let begin = random.seconds(10, 330);
            let length = if random.chance(50) {
                random.seconds(1, 15)
            } else {
                random.seconds(10, 120)
            };
            let end = (begin + length).min(CALM.saturating_sub(Duration::from_secs(1)));
            acts.push((begin, Act::Begin(fault)));
            acts.push((end, Act::End(fault)));
        }
        Self {
            seed,
            cards,
            schedulers,
            acts,
            first_request: Duration::from_secs(15),
            calm: CALM,
            rest: REST,
            end: END,
        }
    }
}

fn fault(random: &mut Random, kind: u64, cards: &[Vec<u64>], schedulers: usize) -> Fault {
    let node = random.place(cards.len());
    let anybody = match random.place(3) {
        0 => Who::Operator(random.place(2)),
        1 => Who::Agent(node),
        _ => Who::Scheduler(random.place(schedulers)),
    };
    match kind {
        0 => Fault::Crash(Who::Operator(random.place(2))),
        1 => Fault::Crash(Who::Agent(node)),
        2 => Fault::Crash(Who::Scheduler(random.place(schedulers))),
        3 => Fault::Stop(random.place(2)),
        16 => Fault::CrashAtWrite(random.place(2), random.between(0, 3)),
        4 => Fault::Cut(anybody),
        5 => Fault::Lag(anybody),
        6 => {
            // By minutes as often as by up to an hour: what is counted wrongly must show before the history ends.
            let most = if random.chance(50) { 1500 } else { 3600 };
            let off =
                i64::try_from(random.between(0, 2 * most)).unwrap_or(0) - i64::try_from(most).unwrap_or(0);
            Fault::Skew(anybody, off)
        }
        7 => Fault::Compact,
        8 => Fault::KillEngine(node, random.place(cards[node].len())),
        9 => Fault::Unreachable(node),
        10 => Fault::PowerCut(node),
        // Never the last one: somebody has to be left.
        11 => Fault::Gone(node.max(1)),
        12 => Fault::ApiAway,
        13 => Fault::Throttle,
        14 => Fault::LoseAnswers,
        15 if random.chance(50) => Fault::SlowLoads,
        15 => Fault::FailingLoads,
        _ => Fault::BreakConnections,
    }
}

fn deployment(random: &mut Random, index: usize) -> ModelDeploymentSpec {
    let memory = random.chance(70).then(|| format!("{}Gi", random.between(1, 5)));
    let (surge, missing) = [(1, 0), (0, 1), (2, 0), (1, 1)][random.place(4)];
    let mut spec: ModelDeploymentSpec = serde_json::from_value(serde_json::json!({
        "cluster": CLUSTER,
        "model": {"source": {"uri": "https://models/m.onnx", "digest": format!("sha256:{index}-0")}},
        "replicas": random.between(0, 3),
        "requirements": {"memory": memory},
    }))
    .unwrap_or_else(|error| panic!("the simulation's deployment is well-formed: {error}"));
    // Two may want the same name: the younger gets none.
    if index == 3 && random.chance(50) {
        spec.model.name = Some("model-0".to_owned());
    }
    spec.rollout = Rollout {
        max_surge: surge,
        max_unavailable: missing,
        progress_deadline_seconds: i32::try_from(random.between(60, 240)).unwrap_or(60),
    };
    spec
}

fn wish(random: &mut Random, deployments: usize, cards: &[Vec<u64>]) -> Wish {
    let which = random.place(deployments);
    let node = random.place(cards.len());
    match random.place(11) {
        0 | 1 => Wish::Scale(which, i32::try_from(random.between(0, 4)).unwrap_or(1)),
        2..=4 => Wish::Revise(which, random.between(1, 5), random.chance(15)),
        5 => Wish::Suspend(which, random.chance(50)),
        6 => Wish::Delete(which),
        7 => Wish::Deploy(which, Box::new(deployment(random, which))),
        8 => Wish::Lend(node, random.place(cards[node].len()), random.chance(70)),
        9 => Wish::Cordon(node, random.chance(50)),
        _ => Wish::Claim(random.between(10, 600)),
    }
}

impl World {
    /// Something comes from outside.
    pub fn act(&mut self, act: Act) {
        match act {
            Act::Begin(fault) => {
                crate::note!(self, "FAULT {fault:?}");
                self.begin(fault);
            }
            Act::End(fault) => {
                crate::note!(self, "END of {fault:?}");
                self.end(fault);
            }
            Act::Wish(wish) => {
                crate::note!(self, "WISH {wish:?}");
                self.wish(wish);
            }
        }
    }

    fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Crash(Who::Operator(who)) => self.crash_operator(who),
            Fault::Crash(Who::Agent(node)) => self.crash_agent(node),
            Fault::Crash(Who::Scheduler(who)) => self.crash_scheduler(who),
            Fault::Stop(who) => self.operators[who].is_stopped = true,
            Fault::CrashAtWrite(who, writes) => self.operators[who].dies_after = Some(writes),
            Fault::Cut(who) => self.set_cut(who, true),
            Fault::Lag(who) => {
                let lag = self.random.seconds(1, 30);
                self.set_lag(who, lag);
            }
            Fault::Skew(who, seconds) => match who {
                Who::Operator(index) => {
                    self.operators[index].skew = seconds;
                    if self.operators[index].term.is_some() {
                        self.trace.saw(Sight::ClockJumped);
                    }
                }
                Who::Agent(node) => self.machines[node].skew = seconds,
                // It never tells the time.
                Who::Scheduler(_) => {}
            },
            Fault::Compact => self.api.compact(),
            Fault::KillEngine(node, card) => {
                let device = self.machines[node].cards[card].name.clone();
                self.kill_engine(node, &device, "it was killed");
            }
            Fault::Unreachable(node) => self.machines[node].unreachable = true,
            Fault::PowerCut(node) => self.cut_power(node),
            Fault::Gone(node) => self.lose_node(node),
            Fault::ApiAway => self.active.api_away = true,
            Fault::Throttle => self.active.throttled = true,
            Fault::LoseAnswers => self.active.lost_answers = true,
            Fault::SlowLoads => self.active.slow_loads = true,
            Fault::FailingLoads => self.active.failing_loads = true,
            Fault::BreakConnections => self.active.broken_connections = true,
        }
    }

    fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Crash(Who::Operator(who)) if !self.operators[who].runs => self.start_operator(who),
            Fault::Crash(Who::Agent(node)) => self.start_agent(node),
            Fault::Crash(Who::Scheduler(who)) if !self.schedulers[who].runs => self.start_scheduler(who),
            Fault::CrashAtWrite(who, _) => {
                self.operators[who].dies_after = None;
                if !self.operators[who].runs {
                    self.start_operator(who);
                }
            }
            Fault::Stop(who) => self.continue_operator(who),
            Fault::Cut(who) => self.set_cut(who, false),
            Fault::Lag(who) => self.set_lag(who, Duration::ZERO),
            Fault::Unreachable(node) => self.machines[node].unreachable = false,
            Fault::PowerCut(node) if !self.machines[node].gone => {
                self.machines[node].powered = true;
                self.start_agent(node);
            }
            Fault::ApiAway => self.active.api_away = false,
            Fault::Throttle => self.active.throttled = false,
            Fault::LoseAnswers => self.active.lost_answers = false,
            Fault::SlowLoads => self.active.slow_loads = false,
            Fault::FailingLoads => self.active.failing_loads = false,
            Fault::BreakConnections => self.active.broken_connections = false,
            // A wrong clock stays wrong: nobody may depend on it.
            _ => {}
        }
    }

    /// All faults are over, whatever the order in which they began and ended.
    pub fn calm(&mut self) {
        self.phase = Phase::Calm;
        self.active = crate::world::Active::default();
        for who in 0..self.operators.len() {
            self.continue_operator(who);
            self.operators[who].dies_after = None;
            self.set_cut(Who::Operator(who), false);
            self.set_lag(Who::Operator(who), Duration::ZERO);
            if !self.operators[who].runs {
                self.start_operator(who);
            }
        }
        for who in 0..self.schedulers.len() {
            self.set_cut(Who::Scheduler(who), false);
            self.set_lag(Who::Scheduler(who), Duration::ZERO);
            if !self.schedulers[who].runs {
                self.start_scheduler(who);
            }
        }
        for node in 0..self.machines.len() {
            self.set_cut(Who::Agent(node), false);
            self.set_lag(Who::Agent(node), Duration::ZERO);
            self.machines[node].unreachable = false;
            if !self.machines[node].gone {
                self.machines[node].powered = true;
                self.start_agent(node);
            }
        }
        crate::note!(self, "all faults are over");
    }

    fn set_cut(&mut self, who: Who, cut: bool) {
        match who {
            Who::Operator(index) => self.operators[index].cut = cut,
            Who::Agent(node) => self.machines[node].cut = cut,
            Who::Scheduler(index) => self.schedulers[index].cut = cut,
        }
    }

    fn set_lag(&mut self, who: Who, lag: Duration) {
        match who {
            Who::Operator(index) => self.operators[index].lag = lag,
            Who::Agent(node) => self.machines[node].lag = lag,
            Who::Scheduler(index) => self.schedulers[index].lag = lag,
        }
    }

    fn lose_node(&mut self, node: usize) {
        if self.machines[node].gone {
            return;
        }
        self.cut_power(node);
        self.machines[node].gone = true;
        let name = self.machines[node].name.clone();
        self.slices.retain(|(place, _), _| *place != node);
        self.claims
            .retain(|claim| claim.place.as_ref().is_none_or(|(place, _)| *place != node));
        // What belongs to the node goes with it.
        self.people(|world| {
            let (nodes, moment) = world.api.nodes(world.now);
            let _ = nodes.delete(moment, &Key::cluster(&name), &Only::default());
            let lease = Key::within("system", afterglow_crds::labels::lease(&name));
            let (leases, moment) = world.api.leases(world.now);
            let _ = leases.delete(moment, &lease, &Only::default());
        });
    }

    fn wish(&mut self, wish: Wish) {
        let key = |index: usize| Key::within(NAMESPACE, format!("model-{index}"));
        match wish {
            Wish::Deploy(index, spec) => self.people(|world| {
                let (deployments, moment) = world.api.deployments(world.now);
                let mut new = ModelDeployment::new(&key(index).name, *spec);
                new.metadata.namespace = Some(NAMESPACE.to_owned());
                // There already: it stays as it is.
                let _ = deployments.create(moment, new);
            }),
            Wish::Scale(index, replicas) => self.change(&key(index), |spec| spec.replicas = replicas),
            Wish::Revise(index, number, is_bad) => self.change(&key(index), |spec| {
                let bad = if is_bad { "bad" } else { "" };
                spec.model.source.digest = format!("sha256:{index}-{number}{bad}");
            }),
            Wish::Suspend(index, suspend) => self.change(&key(index), |spec| spec.suspend = suspend),
            Wish::Delete(index) => self.people(|world| {
                let (deployments, moment) = world.api.deployments(world.now);
                let _ = deployments.delete(moment, &key(index), &Only::default());
            }),
            Wish::Lend(node, card, lent) => {
                let device = self.machines[node].cards[card].name.clone();
                self.change_node(node, |node| {
                    node.spec.lend.retain(|known| *known != device);
                    if lent {
                        node.spec.lend.push(device);
                    }
                });
            }
            Wish::Cordon(node, cordoned) => self.change_node(node, |node| node.spec.unschedulable = cordoned),
            Wish::Claim(seconds) => {
                let id = self.claims.len() as u64 + self.counts.events;
                let until = self.now + Duration::from_secs(seconds);
                self.claims.push(Claim {
                    id,
                    until,
                    place: None,
                });
            }
        }
    }

    fn change(&mut self, key: &Key, change: impl FnOnce(&mut ModelDeploymentSpec)) {
        self.people(|world| {
            let (deployments, moment) = world.api.deployments(world.now);
            let _ = deployments.update(moment, key, &Only::default(), true, |deployment| {
                change(&mut deployment.spec);
            });
        });
    }

    fn change_node(&mut self, node: usize, change: impl FnOnce(&mut GpuNode)) {
        let key = Key::cluster(&self.machines[node].name);
        self.people(|world| {
            let (nodes, moment) = world.api.nodes(world.now);
            let _ = nodes.update(moment, &key, &Only::default(), true, change);
        });
    }
}
