//! One attempt: to the deadline, or until the patience with a replica is over while others are well.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afterglow_policy::pick;
use tokio::time::{timeout, timeout_at};
use tracing::field::Empty;
use tracing::{Instrument as _, debug_span};

use super::outcome::Trip;
use super::{After, Outcome, Scheduler};
use crate::fleet::Replica;
use crate::pick::Picked;
use crate::refusal::Refusal;
use crate::snapshot::{Call, Choice};

/// An attempt that had at least this, and so many times what was expected, before the client's deadline ended it, is the
/// replica's fault.
const FAIR: Duration = Duration::from_secs(1);
const FAIR_TIMES: u32 = 4;

impl Scheduler {
    /// Sends the call to the picked replica, and learns from what comes of it. An error is that the deadline is over.
    pub(super) async fn attempt<A, F, Fut>(
        &self,
        call: &Call,
        picked: &Picked,
        choices: &[Choice],
        trip: &Trip,
        attempt: &F,
    ) -> Result<Outcome<A>, Refusal>
    where
        F: Fn(Arc<Replica>) -> Fut,
        Fut: Future<Output = Outcome<A>>,
    {
        let (choice, started) = (&picked.choice, Instant::now());
        let left = call.deadline.saturating_duration_since(started);
        let others_well = choices.iter().any(|other| {
            let id = &other.replica.id;
            other.candidate.tier == 0 && *id != choice.replica.id && !trip.excluded.contains(id)
        });
        // Questions about a model have no usual time; and the second that is asked is asked to the end.
        let patience = pick::patience(&choice.candidate, call.bytes, others_well, left)
            .filter(|_| call.inference && trip.first());
        let span = debug_span!(
            "attempt",
            otel.kind = "client",
            attempt = i64::from(trip.tried) + 1,
            replica = choice.replica.id,
            node = choice.replica.node,
            device = choice.replica.device,
            because = %picked.because,
            outcome = Empty,
        );
        let mut going = pin!(attempt(choice.replica.clone()).instrument(span.clone()));
        if let Some(patience) = patience {
            match timeout(patience, &mut going).await {
                Ok(outcome) => {
                    span.record("outcome", outcome.name());
                    self.observe(choice, started, &outcome);
                    return Ok(outcome);
                }
                Err(_) if self.budget.spend(After::Breaking) => {
                    let late = Outcome::Late;
                    span.record("outcome", late.name());
                    self.metrics.retry(late.name());
                    self.observe(choice, started, &late);
                    return Ok(late);
                }
                // Nothing to pay for another with: this one may still come.
                Err(_) => self.metrics.retry("over-budget"),
            }
        }
        let deadline = tokio::time::Instant::from_std(call.deadline);
        if let Ok(outcome) = timeout_at(deadline, going).await {
            span.record("outcome", outcome.name());
            self.observe(choice, started, &outcome);
            return Ok(outcome);
        }
        span.record("outcome", "late");
        let expected = pick::expected(&choice.candidate, call.bytes).unwrap_or_default();
        if started.elapsed() >= FAIR.max(expected.saturating_mul(FAIR_TIMES)) {
            self.observe(choice, started, &Outcome::<A>::Late);
        }
        Err(Refusal::late(call.deadline - call.arrival))
    }
}
