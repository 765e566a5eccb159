//! A second chance: when every replica has refused a request, one may be back, or come, in a moment.

use std::pin::pin;
use std::time::{Duration, Instant};

use super::Scheduler;
use crate::snapshot::{Call, Choice};

/// A request waits no longer for a replica …
const LONGEST: Duration = Duration::from_secs(2);
/// … and no longer than this part of the time that is left to it.
const PART: u32 = 4;
/// How often it looks even without news: pauses of replicas end by themselves.
const LOOK: Duration = Duration::from_millis(250);
/// The tier of those that are left alone.
const ALONE: u8 = 3;

impl Scheduler {
    /// Waits until a replica can be asked (again), a moment only, whose `end` is the same for all chances of a request; answers
    /// whether one can. Those who wait are bounded by admission.
    pub(super) async fn another_chance(&self, call: &Call, end: &mut Option<Instant>) -> bool {
        let now = Instant::now();
        let left = call.deadline.saturating_duration_since(now);
        let again = end.is_some();
        let end = *end.get_or_insert(now + LONGEST.min(left / PART));
        if end <= now {
            return false;
        }
        let mut over = pin!(tokio::time::sleep_until(end.into()));
        if again {
            // What looked as if it could be asked could not.
            tokio::time::sleep(LOOK).await;
        } else {
            // Whoever keeps the connection may not have had the time to learn what the request has.
            tokio::task::yield_now().await;
        }
        let mut fleet = self.fleet.clone();
        loop {
            // Listening begins before looking: what comes in between is not missed.
            fleet.mark_unchanged();
            let mut news = pin!(self.links.news.notified());
            news.as_mut().enable();
            let there = |choices: Vec<Choice>| choices.iter().any(|choice| choice.candidate.tier < ALONE);
            if self.choices(call).is_ok_and(there) {
                return true;
            }
            tokio::select! {
                () = &mut over => return false,
                () = news => {}
                () = tokio::time::sleep(LOOK) => {}
                changed = fleet.changed() => if changed.is_err() {
                    // Whoever knows the fleet has gone; engines may still come back.
                    over.as_mut().await;
                    return false;
                },
            }
        }
    }
}
