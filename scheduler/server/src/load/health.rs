//! A breaker's state behind a lock, in real time: the policy decides, this remembers.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use afterglow_policy::breaker::{self, Event, Standing, State};

/// Where time and chance begin: what is left to luck otherwise is given, where a history is to be the same again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    /// What times are measured from.
    pub(crate) epoch: Instant,
    /// What pauses vary by: schedulers must not all go to see at the same moment.
    pub(crate) seed: u64,
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            seed: rand::random(),
        }
    }
}

/// The health of one engine's connection, or of one replica.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// The state, and how often it has learnt.
    state: Mutex<(State, u64)>,
    origin: Origin,
}

impl Health {
    pub(crate) fn new(origin: Origin) -> Self {
        Self {
            state: Mutex::default(),
            origin,
        }
    }

    /// Learns; answers how long it is left alone from now on, if it was not before.
    pub(crate) fn learn(&self, event: Event, now: Instant) -> Option<Duration> {
        let now = self.time(now);
        let mut held = self.lock();
        let (state, learnt) = &mut *held;
        let before = breaker::due(state);
        *learnt += 1;
        // Any hash would do; this is the multiplier of Fibonacci hashing.
        let random = (self.origin.seed ^ *learnt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *state = breaker::step(state, event, now, random);
        let after = breaker::due(state).filter(|_| breaker::due(state) != before)?;
        Some(after.saturating_sub(now))
    }

    /// It answered well what was begun then.
    pub(crate) fn answered(&self, started: Instant, now: Instant) {
        let started = self.time(started);
        self.learn(Event::Answered { started }, now);
    }

    pub(crate) fn standing(&self, now: Instant) -> Standing {
        breaker::standing(&self.lock().0, self.time(now))
    }

    /// Takes the turn to send a request that is to see whether it is well again; somebody may have been quicker.
    pub(crate) fn probe(&self, now: Instant) -> bool {
        let now = self.time(now);
        let state = &mut self.lock().0;
        let mine = breaker::standing(state, now) == Standing::MayProbe;
        if mine {
            *state = breaker::step(state, Event::Probe, now, 0);
        }
        mine
    }

    /// A time as the policy knows it.
    fn time(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.origin.epoch)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (State, u64)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
