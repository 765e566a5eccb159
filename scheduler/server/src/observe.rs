//! What an attempt teaches about its replica.

use std::time::Instant;

use afterglow_policy::breaker::Event;

use crate::send::{Outcome, Scheduler};
use crate::snapshot::Choice;

impl Scheduler {
    /// A good answer makes all good; faults add up, and have the replica left alone for a while. A full queue and a client's mistake
    /// teach nothing. Whether the engine can be reached at all, its link knows by itself.
    pub(crate) fn observe<A>(&self, choice: &Choice, started: Instant, outcome: &Outcome<A>) {
        let (event, error) = match outcome {
            Outcome::Answered(_) => return choice.tracker.health.answered(started, Instant::now()),
            Outcome::Refused(_) | Outcome::Busy(_) => return,
            Outcome::Missing => (Event::NotThere, "it does not have the model"),
            Outcome::Fault(_) => (Event::Fault, "it answers with errors of its own"),
            Outcome::Late => (Event::Fault, "it does not answer in time"),
            Outcome::Broken(error) => (Event::Fault, error.as_str()),
            Outcome::Unsent(error) => {
                tracing::debug!(replica = choice.replica.id, error, "not sent");
                return self.metrics.ejection();
            }
        };
        if matches!(outcome, Outcome::Broken(_)) {
            self.metrics.ejection();
        }
        let replica = &choice.replica;
        if let Some(pause) = choice.tracker.health.learn(event, Instant::now()) {
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
