//! What the scheduler decides about a request, without its sockets: for those who run it without a network, such as
//! `tests/simulation`. Time and randomness are arguments.

use std::sync::Arc;
use std::time::Instant;

use afterglow_crds::inference_cluster::Strategy;
use afterglow_proto::load::Report;

use crate::fleet::{Fleet, Replica};
use crate::load::{Flight, Table, Tracker};
use crate::pick::pick_with;
use crate::send::{Budget, RETRIES};
use crate::snapshot::{Call, snapshot};

/// What a scheduler remembers: loads, breakers and how often it may still send again.
#[derive(Debug, Default)]
pub struct Desk {
    table: Table,
    budget: Budget,
}

/// A request on its way.
#[derive(Debug)]
pub struct Ask {
    call: Call,
    excluded: Vec<String>,
    attempts: usize,
}

/// A replica that is being asked.
#[derive(Debug)]
pub struct Attempt {
    /// The replica.
    pub replica: Arc<Replica>,
    tracker: Arc<Tracker>,
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
    /// No answer: the connection could not be made, or broke.
    Broken,
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
                arrival,
                deadline,
            },
            excluded: Vec::new(),
            attempts: 0,
        }
    }
}

impl Desk {
    /// How often a request is tried at most.
    pub const ATTEMPTS: usize = RETRIES + 1;

    /// A request came in.
    pub fn earn(&self) {
        self.budget.earn();
    }

    /// The fleet has changed: reports are taken for its replicas, others are forgotten.
    pub fn follow(&self, fleet: &Fleet) {
        for replica in fleet.replicas() {
            self.table.tracker(&replica.engine_model);
        }
        self.table.keep(
            |name| fleet.replicas().any(|replica| replica.engine_model == name),
            |node| fleet.load.contains_key(node),
        );
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
        if ask.attempts >= Self::ATTEMPTS || now >= ask.call.deadline {
            return None;
        }
        let choices = snapshot(fleet, &self.table, &ask.call, now).ok()?;
        let picked = pick_with(&choices, &ask.call, None, &ask.excluded, strategy, random)?;
        if ask.attempts > 0 && !self.budget.spend() {
            return None;
        }
        ask.attempts += 1;
        ask.excluded.push(picked.choice.replica.id.clone());
        let tracker = picked.choice.tracker;
        Some(Attempt {
            replica: picked.choice.replica,
            _flight: tracker.begin(),
            tracker,
        })
    }

    /// What the attempt teaches about its replica.
    pub fn over(&self, attempt: &Attempt, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Answered | Outcome::Busy | Outcome::Missing => attempt.tracker.answered(),
            Outcome::Broken => {
                attempt.tracker.broke(now);
            }
        }
    }
}
