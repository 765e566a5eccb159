//! A breaker's state behind a lock, in real time: the policy decides, this remembers.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use afterglow_policy::breaker::{self, Event, Standing, State};

/// The epoch that all states are measured from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A time as the policy knows it.
pub(crate) fn since_epoch(at: Instant) -> Duration {
    at.saturating_duration_since(*EPOCH)
}

/// The health of one engine's connection, or of one replica.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

impl Health {
    /// Learns; answers how long it is left alone from now on, if it was not before.
    pub(crate) fn learn(&self, event: Event, now: Instant) -> Option<Duration> {
        let now = since_epoch(now);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = breaker::due(&state);
        *state = breaker::step(&state, event, now, rand::random());
        let after = breaker::due(&state).filter(|_| breaker::due(&state) != before)?;
        Some(after.saturating_sub(now))
    }

    /// It answered well what was begun then.
    pub(crate) fn answered(&self, started: Instant, now: Instant) {
        let started = since_epoch(started);
        self.learn(Event::Answered { started }, now);
    }

    pub(crate) fn standing(&self, now: Instant) -> Standing {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        breaker::standing(&state, since_epoch(now))
    }

    /// Takes the turn to send a request that is to see whether it is well again; somebody may have been quicker.
    pub(crate) fn probe(&self, now: Instant) -> bool {
        let now = since_epoch(now);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = breaker::standing(&state, now) == Standing::MayProbe;
        if mine {
            *state = breaker::step(&state, Event::Probe, now, 0);
        }
        mine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_takes_the_turn_to_see_and_breaks_together_are_told_once() {
        let health = Health::default();
        let now = Instant::now();
        assert!(health.learn(Event::NotThere, now).is_some());
        assert!(health.learn(Event::NotThere, now).is_none(), "the same trouble");
        assert!(!health.probe(now), "too early");
        let later = now + Duration::from_secs(1);
        assert!(health.probe(later));
        assert!(!health.probe(later));
        health.answered(later, later);
        assert_eq!(health.standing(later), Standing::Well);
    }
}
