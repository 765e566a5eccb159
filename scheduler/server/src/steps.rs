//! What the scheduler decides about a request, without its sockets: for those who run it without a network, such as
//! `tests/simulation`. Time and randomness are arguments.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use afterglow_crds::inference_cluster::Strategy;
use afterglow_policy::breaker::{Event, Standing};
use afterglow_proto::load::Report;

use crate::fleet::{Fleet, Replica};
use crate::load::{Flight, Health, Origin, Table, Tracker};
use crate::observe;
use crate::pick::pick_with;
use crate::send::{self, Budget, Chance, Trip};
use crate::snapshot::{Call, Choice, snapshot};

/// What a scheduler remembers: loads, breakers and how often it may still send again.
#[derive(Debug)]
pub struct Desk {
    table: Table,
    budget: Budget,
    origin: Origin,
    /// What whoever keeps the connections has learnt of engines, by address.
    engines: Mutex<HashMap<String, Arc<Health>>>,
}

/// A request on its way.
#[derive(Debug)]
pub struct Ask {
    call: Call,
    trip: Trip,
    has_begun: bool,
    over: bool,
}

/// What is done next with a request.
#[derive(Debug)]
pub enum Next {
    /// This replica is asked.
    Ask(Attempt),
    /// One may come (back) until then: every [`Desk::LOOK`] somebody looks ([`Desk::may_ask_again`]).
    Wait(Instant),
    /// Nothing: nobody is left to ask, or enough was tried.
    Over,
}

/// A replica that is being asked.
#[derive(Debug)]
pub struct Attempt {
    /// The replica.
    pub replica: Arc<Replica>,
    tracker: Arc<Tracker>,
    started: Instant,
    /// Counted until the attempt is over.
    _flight: Flight,
}

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The answer.
    Answered,
    /// The engine has no room.
    Busy,
    /// The engine does not have the model (any more).
    Missing,
    /// No answer: the connection broke.
    Broken,
    /// Nothing was sent: the connection could not be made.
    Unsent,
}

impl From<Outcome> for send::Outcome<()> {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Answered => Self::Answered(()),
            Outcome::Busy => Self::Busy(()),
            Outcome::Missing => Self::Missing,
            Outcome::Broken => Self::Broken(String::new()),
            Outcome::Unsent => Self::Unsent(String::new()),
        }
    }
}

impl Ask {
    /// A request for a model of a namespace, of any revision unless `version` says which.
    pub fn new(
        namespace: &str,
        model: &str,
        version: Option<String>,
        arrival: Instant,
        deadline: Instant,
    ) -> Self {
        Self {
            call: Call {
                namespace: namespace.to_owned(),
                model: model.to_owned(),
                version,
                session: None,
                bytes: 1024,
                inference: true,
                arrival,
                deadline,
            },
            trip: Trip::default(),
            has_begun: false,
            over: false,
        }
    }
}

impl Desk {
    /// Remembers nothing yet. Times are measured from `epoch`; `seed` is what pauses vary by.
    pub fn new(epoch: Instant, seed: u64) -> Self {
        let origin = Origin { epoch, seed };
        Self {
            table: Table::new(origin),
            budget: Budget::default(),
            origin,
            engines: Mutex::default(),
        }
    }

    /// How often a request reaches an engine at most.
    pub const ATTEMPTS: usize = Trip::DELIVERIES;
    /// How many requests may be sent again before any has come; each that comes adds a fifth.
    pub const SAVED: u64 = Budget::SAVED;
    /// How often a request that waits for a replica looks for one.
    pub const LOOK: Duration = send::LOOK;

    /// A request came in.
    pub fn earn(&self) {
        self.budget.earn();
    }

    /// The fleet has changed: reports are taken for its replicas, others are forgotten.
    pub fn follow(&self, fleet: &Fleet, now: Instant) {
        self.table.keep(fleet, now);
        self.engines()
            .retain(|address, _| fleet.replicas().any(|replica| replica.grpc == *address));
    }

    /// The engine at an address can be reached.
    pub fn reached(&self, address: &str, now: Instant) {
        self.engine(address).answered(now, now);
    }

    /// It cannot, or the connection to it is lost.
    pub fn unreachable(&self, address: &str, now: Instant) {
        self.engine(address).learn(Event::Unreachable, now);
    }

    fn engine(&self, address: &str) -> Arc<Health> {
        let mut engines = self.engines();
        let new = || Arc::new(Health::new(self.origin));
        engines.entry(address.to_owned()).or_insert_with(new).clone()
    }

    fn engines(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Health>>> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn choices(&self, fleet: &Fleet, ask: &Ask, now: Instant) -> Option<Vec<Choice>> {
        let engines = self.engines();
        let engine = |address: &str| {
            let known = engines.get(address);
            known.map_or(Standing::Well, |known| known.standing(now))
        };
        snapshot(fleet, &self.table, engine, &ask.call, now).ok()
    }

    /// A node's report of its load.
    pub fn report(&self, node: &str, report: &Report, now: Instant) {
        self.table.report(node, report, now);
    }

    /// What `Scheduler::send` would do next.
    pub fn next(&self, fleet: &Fleet, ask: &mut Ask, strategy: Strategy, now: Instant, random: u64) -> Next {
        if ask.over || now >= ask.call.deadline {
            return Next::Over;
        }
        loop {
            let choices = match self.choices(fleet, ask, now) {
                Some(choices) => choices,
                None if ask.has_begun => Vec::new(),
                None => return Next::Over,
            };
            let excluded = &ask.trip.excluded;
            let picked = pick_with(&choices, &ask.call, None, excluded, strategy, random);
            match ask.trip.next(picked, &ask.call, &self.budget, now) {
                send::Next::Ask { picked, .. } => {
                    ask.has_begun = true;
                    let (replica, tracker) = (picked.choice.replica, picked.choice.tracker);
                    return Next::Ask(Attempt {
                        replica,
                        _flight: tracker.begin(),
                        tracker,
                        started: now,
                    });
                }
                send::Next::Look => {}
                send::Next::Wait(chance) => return Next::Wait(chance.end),
                send::Next::Nobody | send::Next::OverBudget => return Next::Over,
            }
        }
    }

    /// Whether a replica that a request waits for has come (back); if so, all may be asked once more.
    pub fn may_ask_again(&self, fleet: &Fleet, ask: &mut Ask, now: Instant) -> bool {
        let choices = self.choices(fleet, ask, now);
        let there = choices.is_some_and(|choices| Chance::is_there(&choices));
        if there {
            ask.trip.ask_all_again();
        }
        there
    }

    /// What the attempt teaches about its replica, and whether the request may be sent again.
    pub fn over(&self, ask: &mut Ask, attempt: &Attempt, outcome: Outcome, now: Instant) {
        let outcome = send::Outcome::from(outcome);
        match observe::lesson(&outcome) {
            Some(observe::Lesson::Good) => attempt.tracker.health.answered(attempt.started, now),
            Some(observe::Lesson::Bad(event, _)) => {
                attempt.tracker.health.learn(event, now);
            }
            None => {}
        }
        ask.over = !ask.trip.again(&outcome);
    }
}
