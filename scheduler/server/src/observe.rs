//! What an attempt teaches about its replica.

use std::time::Instant;

use crate::send::{Outcome, Scheduler};
use crate::snapshot::Choice;

impl Scheduler {
    /// An answer of any kind proves that somebody is there; a broken connection has the replica left alone for a while.
    pub(crate) fn observe<A>(&self, choice: &Choice, outcome: &Outcome<A>) {
        let replica = &choice.replica;
        match outcome {
            Outcome::Answered(_) | Outcome::Busy(_) | Outcome::Missing => choice.tracker.answered(),
            Outcome::Broken(error) => {
                let pause = choice.tracker.broke(Instant::now());
                self.metrics.ejection();
                tracing::warn!(
                    replica = replica.id,
                    node = replica.node,
                    device = replica.device,
                    error,
                    pause_ms = pause.as_millis() as u64,
                    "a replica cannot be reached and is left alone for a while"
                );
            }
        }
    }
}
