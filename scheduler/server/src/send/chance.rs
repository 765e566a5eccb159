//! A second chance: when every replica has refused a request, one may be back, or come, in a moment.

use std::pin::pin;
use std::time::{Duration, Instant};

use super::Scheduler;
use crate::snapshot::{Call, Choice};

/// A request waits no longer for a replica …
const LONGEST: Duration = Duration::from_secs(2);
/// … and no longer than this part of the time that is left to it.
const PART: u32 = 4;
/// The tier of those that are left alone.
const ALONE: u8 = 3;

impl Scheduler {
    /// Waits until a replica can be asked (again), a moment only; answers whether one can. Those who wait are bounded by admission.
    pub(super) async fn another_chance(&self, call: &Call) -> bool {
        let left = call.deadline.saturating_duration_since(Instant::now());
        let mut over = pin!(tokio::time::sleep(LONGEST.min(left / PART)));
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
                changed = fleet.changed() => if changed.is_err() {
                    // Whoever knows the fleet has gone; engines may still come back.
                    over.as_mut().await;
                    return false;
                },
            }
        }
    }
}
