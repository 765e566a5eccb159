//! What an attempt teaches about its replica.

use std::time::Instant;

use afterglow_policy::breaker::Event;

use crate::send::{Outcome, Scheduler};
use crate::snapshot::Choice;

/// What there is to learn from an outcome.
pub(crate) enum Lesson<'a> {
    /// All is good.
    Good,
    /// It is not, and why, in words.
    Bad(Event, &'a str),
}

/// A good answer makes all good; faults add up, and have the replica left alone for a while. A full queue and a client's mistake
/// teach nothing. Whether the engine can be reached at all, its link knows by itself.
pub(crate) fn lesson<A>(outcome: &Outcome<A>) -> Option<Lesson<'_>> {
    match outcome {
        Outcome::Answered(_) => Some(Lesson::Good),
        Outcome::Refused(_) | Outcome::Busy(_) | Outcome::Unsent(_) => None,
        Outcome::Missing => Some(Lesson::Bad(Event::NotThere, "it does not have the model")),
        Outcome::Fault(_) => Some(Lesson::Bad(Event::Fault, "it answers with errors of its own")),
        Outcome::Late => Some(Lesson::Bad(Event::Fault, "it does not answer in time")),
        Outcome::Broken(error) => Some(Lesson::Bad(Event::Fault, error)),
    }
}

impl Scheduler {
    /// Takes in the lesson of an attempt.
    pub(crate) fn observe<A>(&self, choice: &Choice, started: Instant, outcome: &Outcome<A>) {
        let replica = &choice.replica;
        if let Outcome::Unsent(error) = outcome {
            tracing::debug!(replica = replica.id, error, "not sent");
        }
        if matches!(outcome, Outcome::Broken(_) | Outcome::Unsent(_)) {
            self.metrics.ejection();
        }
        let now = Instant::now();
        let (event, error) = match lesson(outcome) {
            None => return,
            Some(Lesson::Good) => return choice.tracker.health.answered(started, now),
            Some(Lesson::Bad(event, error)) => (event, error),
        };
        if let Some(pause) = choice.tracker.health.learn(event, now) {
            tracing::warn!(
                replica = replica.id,
                node = replica.node,
                device = replica.device,
                error,
                pause_ms = pause.as_millis() as u64,
                "a replica is left alone for a while"
            );
        } else {
            tracing::debug!(replica = replica.id, error, "an attempt failed");
        }
    }
}
