//! A plan of faults: a pure function of a seed and of what there is to strike. The same seed on the same field is the same
//! plan; the field is printed beside the seed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::dice::Dice;
use super::fault::Fault;
use super::program::Program;

/// After the end of a fault, before the next: longer than recovery may take, so that each is seen alone.
pub const REST: Duration = Duration::from_secs(45);
/// Kubernetes starts a container again at once, and lets every further start wait: that pause is not ours to be measured.
const KILLS: u32 = 2;

/// What there is to strike.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// Nodes that may be cut, separated, rebooted.
    pub nodes: &'a [String],
    /// Nodes whose model cache has a small disk of its own.
    pub small_disks: &'a [String],
    /// Programs, and where they run.
    pub processes: &'a [(Program, String)],
}

/// One entry of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// From the plan's beginning.
    pub at: Duration,
    /// What.
    pub fault: Fault,
    /// For how long; zero where it is over at once.
    pub lasts: Duration,
}

impl fmt::Display for Strike {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:4} s  {}", self.at.as_secs(), self.fault)?;
        if self.fault.lasts() {
            write!(formatter, " for {:.1} s", self.lasts.as_secs_f64())?;
        }
        Ok(())
    }
}

/// So many faults, one after the other. No kind comes twice before each has come once; no process is killed more than twice.
/// Shorter than asked for only where the field has nothing to strike.
pub fn plan(seed: u64, field: &Field<'_>, count: usize) -> Vec<Strike> {
    let mut dice = Dice::new(seed);
    let mut killed: BTreeMap<(Program, String), u32> = BTreeMap::new();
    let mut strikes = Vec::new();
    let mut at = Duration::from_secs(dice.between(5, 15));
    let mut deck: Vec<Kind> = Vec::new();
    let mut fruitless = 0;
    while strikes.len() < count && fruitless <= 2 * KINDS.len() {
        if deck.is_empty() {
            deck = KINDS.to_vec();
            dice.shuffle(&mut deck);
        }
        let Some(kind) = deck.pop() else { break };
        let Some(fault) = kind.fault(field, &mut killed, &mut dice) else {
            fruitless += 1;
            continue;
        };
        fruitless = 0;
        let (least, most) = kind.lasts();
        let lasts = Duration::from_millis(dice.between(least, most));
        strikes.push(Strike { at, fault, lasts });
        at += lasts + REST + Duration::from_millis(dice.between(0, 5000));
    }
    strikes
}

/// A kind of fault that a plan may hold. A wiped node gets its images for longer than there is between two faults, and a frozen scheduler is for the client's own load
/// balancer to notice: these are for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    PowerCut,
    Partition,
    Reboot,
    Kill(Program),
    Freeze(Program),
    StopApiServer,
    SlowApiServer,
    RestartApiServer,
    FillDisk,
    LockDisk,
}

const KINDS: [Kind; 14] = [
    Kind::PowerCut,
    Kind::Partition,
    Kind::Reboot,
    Kind::Kill(Program::Engine),
    Kind::Kill(Program::Agent),
    Kind::Kill(Program::Scheduler),
    Kind::Kill(Program::Operator),
    Kind::Freeze(Program::Engine),
    Kind::Freeze(Program::Agent),
    Kind::StopApiServer,
    Kind::SlowApiServer,
    Kind::RestartApiServer,
    Kind::FillDisk,
    Kind::LockDisk,
];

impl Kind {
    /// Milliseconds, from and to.
    fn lasts(self) -> (u64, u64) {
        match self {
            Self::Reboot | Self::Kill(_) | Self::RestartApiServer => (0, 0),
            // Shorter than a client waits: what stood still is late, not lost.
            Self::Freeze(Program::Engine) => (2000, 5000),
            Self::Freeze(_) => (5000, 15_000),
            // Longer than the operator waits for an agent: its replica is to serve elsewhere before the node is back.
            Self::PowerCut => (35_000, 45_000),
            Self::Partition => (10_000, 20_000),
            Self::StopApiServer | Self::SlowApiServer | Self::FillDisk | Self::LockDisk => (15_000, 30_000),
        }
    }

    fn fault(
        self,
        field: &Field<'_>,
        killed: &mut BTreeMap<(Program, String), u32>,
        dice: &mut Dice,
    ) -> Option<Fault> {
        let node = |dice: &mut Dice| dice.one(field.nodes).cloned();
        let disk = |dice: &mut Dice| dice.one(field.small_disks).cloned();
        Some(match self {
            Self::PowerCut => Fault::PowerCut { node: node(dice)? },
            Self::Partition => Fault::Partition { node: node(dice)? },
            Self::Reboot => Fault::Reboot { node: node(dice)? },
            Self::StopApiServer => Fault::StopApiServer,
            Self::SlowApiServer => Fault::SlowApiServer,
            Self::RestartApiServer => Fault::RestartApiServer,
            Self::FillDisk => Fault::FillDisk { node: disk(dice)? },
            Self::LockDisk => Fault::LockDisk { node: disk(dice)? },
            Self::Freeze(program) => {
                let node = dice.one(&field.of(program))?.clone();
                Fault::Freeze { program, node }
            }
            Self::Kill(program) => {
                let mut places = field.of(program);
                // An engine's restarts are the agent's own, which forgets soon.
                if program != Program::Engine {
                    places.retain(|node| {
                        killed.get(&(program, node.clone())).copied().unwrap_or_default() < KILLS
                    });
                }
                let node = dice.one(&places)?.clone();
                *killed.entry((program, node.clone())).or_default() += 1;
                Fault::Kill { program, node }
            }
        })
    }
}

impl Field<'_> {
    /// Nodes with a process of that program.
    fn of(&self, program: Program) -> Vec<String> {
        let mut nodes: Vec<String> = self
            .processes
            .iter()
            .filter(|(other, _)| *other == program)
            .map(|(_, node)| node.clone())
            .collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn nodes() -> Vec<String> {
        vec!["node2".to_owned(), "node3".to_owned()]
    }

    fn processes() -> Vec<(Program, String)> {
        let at = |program, node: &str| (program, node.to_owned());
        vec![
            at(Program::Engine, "node2"),
            at(Program::Engine, "node3"),
            at(Program::Agent, "node1"),
            at(Program::Agent, "node2"),
            at(Program::Agent, "node3"),
            at(Program::Scheduler, "node1"),
            at(Program::Scheduler, "node4"),
            at(Program::Operator, "node1"),
        ]
    }

    fn planned(seed: u64, count: usize) -> Vec<Strike> {
        let (nodes, processes) = (nodes(), processes());
        plan(
            seed,
            &Field {
                nodes: &nodes,
                small_disks: &nodes,
                processes: &processes,
            },
            count,
        )
    }

    #[test]
    fn the_same_seed_is_the_same_plan_and_another_is_another() {
        assert_eq!(planned(42, 18), planned(42, 18));
        let different: BTreeSet<String> = (0..100).map(|seed| format!("{:?}", planned(seed, 18))).collect();
        assert_eq!(different.len(), 100);
        assert_eq!(
            planned(42, 18)[..10],
            planned(42, 10)[..],
            "a longer plan begins as a shorter one"
        );
    }

    #[test]
    fn there_are_as_many_strikes_as_were_asked_for_and_each_has_time_to_be_seen() {
        for seed in 0..200 {
            let plan = planned(seed, 18);
            assert_eq!(plan.len(), 18, "seed {seed}");
            for pair in plan.windows(2) {
                assert!(
                    pair[1].at >= pair[0].at + pair[0].lasts + REST,
                    "seed {seed}: {} and {}",
                    pair[0],
                    pair[1]
                );
            }
        }
    }

    #[test]
    fn every_kind_comes_before_any_comes_again() {
        for seed in 0..200 {
            let kinds: BTreeSet<String> = planned(seed, KINDS.len())
                .iter()
                .map(|strike| strike.fault.kind())
                .collect();
            assert_eq!(kinds.len(), KINDS.len(), "seed {seed}: {kinds:?}");
        }
    }

    #[test]
    fn no_container_is_killed_into_the_back_off_of_kubernetes() {
        for seed in 0..200 {
            let mut kills: BTreeMap<Fault, u32> = BTreeMap::new();
            for strike in planned(seed, 60) {
                if matches!(
                    strike.fault,
                    Fault::Kill {
                        program: Program::Agent | Program::Scheduler | Program::Operator,
                        ..
                    }
                ) {
                    *kills.entry(strike.fault).or_default() += 1;
                }
            }
            assert!(
                kills.values().all(|times| *times <= KILLS),
                "seed {seed}: {kills:?}"
            );
        }
    }

    #[test]
    fn only_what_is_there_is_struck() {
        for seed in 0..200 {
            for strike in planned(seed, 60) {
                match &strike.fault {
                    Fault::PowerCut { node } | Fault::Partition { node } | Fault::Reboot { node } => {
                        assert!(nodes().contains(node));
                    }
                    Fault::Kill { program, node } | Fault::Freeze { program, node } => {
                        assert!(processes().contains(&(*program, node.clone())));
                    }
                    _ => {}
                }
                assert_eq!(strike.fault.lasts(), strike.lasts > Duration::ZERO, "{strike}");
            }
        }
        let nothing = Field {
            nodes: &[],
            small_disks: &[],
            processes: &[],
        };
        let left: BTreeSet<String> = plan(1, &nothing, 10)
            .iter()
            .map(|strike| strike.fault.kind())
            .collect();
        assert_eq!(
            left.iter().map(String::as_str).collect::<Vec<_>>(),
            ["restart-api-server", "slow-api-server", "stop-api-server"],
            "an API server there always is"
        );
    }
}
