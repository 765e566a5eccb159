//! What a replica is about to do next: a pure function of what it did and how that went.

use std::time::Duration;

use crate::fetch::{Failure, Retry};

/// The first pause of what may pass by itself; it doubles.
const SOON: Duration = Duration::from_secs(5);
/// … up to this.
const RARELY: Duration = Duration::from_mins(5);
/// The pause of what somebody has to put right.
const SLOWLY: Duration = Duration::from_mins(1);

/// What a replica is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// The model is brought here.
    #[default]
    Fetching,
    /// The model is tried on the device.
    Probing,
    /// The engine loads it.
    Loading,
    /// It answers.
    Ready,
    /// It finishes what it has and is unloaded.
    Draining,
    /// The engine has let go of it.
    Released,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The phase's work is done.
    Done,
    /// It failed.
    Failed(Failure),
    /// The engine that loads or serves it is gone, and why.
    EngineDied(String),
    /// The model's folder in the cache is gone or damaged.
    TreeLost,
    /// Nobody wants the replica any more.
    Deleted,
}

/// Where a replica stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// What it does.
    pub phase: Phase,
    /// What went wrong last, until it has gone right.
    pub failure: Option<Failure>,
    /// How often in a row.
    failures: u32,
}

impl State {
    /// What it does after that.
    #[must_use]
    pub fn step(self, event: Event) -> Self {
        use Phase::{Draining, Fetching, Loading, Probing, Ready, Released};
        let at = |phase| Self {
            phase,
            ..Self::default()
        };
        match (self.phase, event) {
            (Fetching, Event::Done) => at(Probing),
            (Probing, Event::Done) => at(Loading),
            (Loading, Event::Done) => at(Ready),
            // Nothing of it is in an engine; and whatever comes of an orderly end, it is the end.
            (Fetching | Probing, Event::Deleted)
            | (Draining, Event::Done | Event::Failed(_) | Event::EngineDied(_)) => at(Released),
            (Loading | Ready, Event::Deleted) => at(Draining),
            (phase @ (Fetching | Probing | Loading | Ready), Event::Failed(failure)) => Self {
                phase: if phase == Ready { Loading } else { phase },
                failure: Some(failure),
                failures: self.failures.saturating_add(1),
            },
            // It served and did nothing wrong that we know of: at once. Who died while loading a model may die of it.
            (phase @ (Loading | Ready), Event::EngineDied(why)) => Self {
                phase: Loading,
                failure: Some(engine_failed(&why)),
                failures: if phase == Ready {
                    0
                } else {
                    self.failures.saturating_add(1)
                },
            },
            (Probing | Loading, Event::TreeLost) => Self {
                phase: Fetching,
                failure: Some(Failure::new(
                    "CacheUnusable",
                    Retry::Soon,
                    "the model's files in the node's cache were removed or damaged; it is fetched again by itself. If that \
                     goes on, check the disk behind the agent's --cache, and that nobody else writes there",
                )),
                failures: self.failures.saturating_add(1),
            },
            _ => self,
        }
    }

    /// How long to wait before the phase's work; `None`: for ever, the same would come of it.
    pub fn pause(&self) -> Option<Duration> {
        let Some(failure) = self.failure.as_ref().filter(|_| self.failures > 0) else {
            return Some(Duration::ZERO);
        };
        match failure.retry {
            Retry::Soon => Some(SOON.saturating_mul(1 << (self.failures - 1).min(16)).min(RARELY)),
            Retry::Slowly => Some(SLOWLY),
            Retry::Never => None,
        }
    }
}

/// The failure of an engine, and why; the model is loaded again.
pub fn engine_failed(why: &str) -> Failure {
    Failure::new(
        "EngineFailed",
        Retry::Soon,
        format!("{why}; the model is loaded again by itself"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use Phase::{Draining, Fetching, Loading, Probing, Ready, Released};

    fn state(phase: Phase) -> State {
        State {
            phase,
            ..State::default()
        }
    }

    fn failure(reason: &'static str, retry: Retry) -> Failure {
        Failure::new(reason, retry, "x")
    }

    #[test]
    fn every_phase_leads_to_the_next() {
        let mut at = State::default();
        for phase in [Fetching, Probing, Loading, Ready] {
            assert_eq!(at.phase, phase);
            if phase != Ready {
                at = at.step(Event::Done);
            }
        }
        assert_eq!(at.clone().step(Event::Deleted).phase, Draining);
        assert_eq!(at.step(Event::Deleted).step(Event::Done).phase, Released);
    }

    #[test]
    fn a_deletion_ends_in_a_release_from_everywhere() {
        for (phase, next) in [
            (Fetching, Released),
            (Probing, Released),
            (Loading, Draining),
            (Ready, Draining),
            (Draining, Draining),
            (Released, Released),
        ] {
            assert_eq!(state(phase).step(Event::Deleted).phase, next, "{phase:?}");
        }
        for event in [
            Event::Done,
            Event::Failed(failure("EngineFailed", Retry::Soon)),
            Event::EngineDied("x".into()),
        ] {
            assert_eq!(state(Draining).step(event.clone()).phase, Released, "{event:?}");
            assert_eq!(state(Released).step(event).phase, Released);
        }
    }

    #[test]
    fn a_failure_keeps_its_phase_and_is_forgotten_when_it_went_right() {
        for phase in [Fetching, Probing, Loading] {
            let failed = state(phase).step(Event::Failed(failure("X", Retry::Slowly)));
            assert_eq!((failed.phase, failed.failures), (phase, 1));
            let right = failed.step(Event::Done);
            assert_eq!((right.failure, right.failures), (None, 0));
        }
    }

    #[test]
    fn what_may_pass_is_tried_ever_more_rarely_and_what_cannot_change_never() {
        let mut at = state(Fetching);
        let mut pauses = Vec::new();
        for _ in 0..40 {
            at = at.step(Event::Failed(failure("SourceUnreachable", Retry::Soon)));
            pauses.push(at.pause().unwrap().as_secs());
        }
        assert_eq!(pauses[..8], [5, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(pauses[39], 300);
        let slowly = state(Fetching).step(Event::Failed(failure("SourceNotFound", Retry::Slowly)));
        assert_eq!(slowly.pause(), Some(Duration::from_mins(1)));
        let never = state(Probing).step(Event::Failed(failure("ProbeMismatch", Retry::Never)));
        assert_eq!(never.pause(), None);
        assert_eq!(State::default().pause(), Some(Duration::ZERO));
    }

    #[test]
    fn a_model_whose_files_are_gone_is_fetched_again_after_a_pause() {
        for phase in [Probing, Loading] {
            let lost = state(phase).step(Event::TreeLost);
            assert_eq!((lost.phase, lost.pause()), (Fetching, Some(SOON)));
            assert_eq!(lost.failure.as_ref().unwrap().reason, "CacheUnusable");
            assert_eq!(
                lost.step(Event::Done),
                state(Probing),
                "said no longer than it is so"
            );
        }
    }

    #[test]
    fn who_served_is_back_at_once_and_who_died_loading_waits() {
        let died = || Event::EngineDied("the engine of gpu-0 ended".into());
        let served = state(Ready).step(died());
        assert_eq!((served.phase, served.pause()), (Loading, Some(Duration::ZERO)));
        assert_eq!(served.failure.as_ref().unwrap().reason, "EngineFailed");
        let loading = state(Loading).step(died());
        assert_eq!(loading.pause(), Some(SOON));
        assert_eq!(loading.step(died()).pause(), Some(2 * SOON));
        // It has nothing in an engine yet.
        assert_eq!(state(Probing).step(died()), state(Probing));
    }
}
