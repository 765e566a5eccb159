//! What the scheduler decides about a request, without its sockets: for those who run it without a network, such as
//! `tests/simulation`. Time and randomness are arguments.

use std::sync::Arc;
use std::time::Instant;

use afterglow_crds::inference_cluster::Strategy;
use afterglow_proto::load::Report;

use crate::fleet::{Fleet, Replica};
use crate::load::{Flight, Origin, Table, Tracker};
use crate::observe;
use crate::pick::pick_with;
use crate::send::{self, Budget, Links, Trip};
use crate::snapshot::{Call, snapshot};

/// What a scheduler remembers: loads, breakers and how often it may still send again.
#[derive(Debug)]
pub struct Desk {
    table: Table,
    budget: Budget,
    /// Stays empty: connections are the network's.
    links: Links,
}

/// A request on its way.
#[derive(Debug)]
pub struct Ask {
    call: Call,
    trip: Trip,
    over: bool,
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
            over: false,
        }
    }
}

impl Desk {
    /// Remembers nothing yet. Times are measured from `epoch`; `seed` is what pauses vary by.
    pub fn new(epoch: Instant, seed: u64) -> Self {
        Self {
            table: Table::new(Origin { epoch, seed }),
            budget: Budget::default(),
            links: Links::default(),
        }
    }

    /// How often a request reaches an engine at most.
    pub const ATTEMPTS: usize = Trip::DELIVERIES;
    /// How many requests may be sent again before any has come; each that comes adds a fifth.
    pub const SAVED: u64 = Budget::SAVED;

    /// A request came in.
    pub fn earn(&self) {
        self.budget.earn();
    }

    /// The fleet has changed: reports are taken for its replicas, others are forgotten.
    pub fn follow(&self, fleet: &Fleet, now: Instant) {
        self.table.keep(fleet, now);
    }

    /// A node's report of its load.
    pub fn report(&self, node: &str, report: &Report, now: Instant) {
        self.table.report(node, report, now);
    }

    /// The replica to ask next, as `Scheduler::send` chooses it; `None`: nobody is left, or enough was tried.
    pub fn next(
        &self,
        fleet: &Fleet,
        ask: &mut Ask,
        strategy: Strategy,
        now: Instant,
        random: u64,
    ) -> Option<Attempt> {
        if ask.over || now >= ask.call.deadline {
            return None;
        }
        let picked = loop {
            let choices = snapshot(fleet, &self.table, &self.links, &ask.call, now).ok()?;
            let picked = pick_with(&choices, &ask.call, None, &ask.trip.excluded, strategy, random)?;
            if !picked.choice.probes || picked.choice.tracker.health.probe(now) {
                break picked;
            }
        };
        if let Some(after) = ask.trip.due.take()
            && !self.budget.spend(after)
        {
            return None;
        }
        let (replica, tracker) = (picked.choice.replica, picked.choice.tracker);
        ask.trip.excluded.push(replica.id.clone());
        Some(Attempt {
            replica,
            _flight: tracker.begin(),
            tracker,
            started: now,
        })
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
