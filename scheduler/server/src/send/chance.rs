//! A second chance: when every replica has refused a request, one may be back, or come, in a moment.

use std::pin::pin;
use std::time::Duration;

use super::Scheduler;
use super::next::Chance;
use crate::snapshot::Call;

/// How often it looks even without news: pauses of replicas end by themselves.
pub(crate) const LOOK: Duration = Duration::from_millis(250);

impl Scheduler {
    /// Waits until a replica can be asked (again), no longer than the chance lasts; answers whether one can. Those who wait are
    /// bounded by admission.
    pub(super) async fn another_chance(&self, call: &Call, chance: Chance) -> bool {
        let mut over = pin!(tokio::time::sleep_until(chance.end.into()));
        if chance.again {
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
            if self.choices(call).is_ok_and(|choices| Chance::is_there(&choices)) {
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
