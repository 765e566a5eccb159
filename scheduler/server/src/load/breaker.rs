//! A replica whose connection is refused or breaks is left alone for a while, a longer one each time.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);

/// The state of one replica.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Breaker {
    until: Option<Instant>,
    pause: Duration,
}

impl Breaker {
    /// Until when it is left alone; `None`: it may be used.
    pub(crate) fn ejected_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// A connection was refused or broke. Requests that were under way together break together: that counts once.
    pub(crate) fn broke(&mut self, now: Instant) -> Duration {
        if let Some(until) = self.ejected_until(now) {
            return until - now;
        }
        self.pause = if self.pause.is_zero() {
            FIRST
        } else {
            (self.pause * 2).min(LONGEST)
        };
        self.until = Some(now + self.pause);
        self.pause
    }

    /// It answered.
    pub(crate) fn answered(&mut self) {
        *self = Self::default();
    }
}

/// Which of a model's replicas may be used: those that are not ejected, and of the ejected ones so many (soonest back first)
/// that never more than half are left alone; all, if all are ejected: then nothing is known to be better.
pub(crate) fn admissible(ejected: &[Option<Instant>]) -> Vec<bool> {
    let mut out: Vec<usize> = (0..ejected.len()).filter(|&i| ejected[i].is_some()).collect();
    if out.len() == ejected.len() {
        return vec![true; ejected.len()];
    }
    out.sort_by_key(|&i| std::cmp::Reverse(ejected[i]));
    let mut usable = vec![true; ejected.len()];
    for &i in out.iter().take(ejected.len() / 2) {
        usable[i] = false;
    }
    usable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_in_a_row_costs_twice_the_time_up_to_ten_seconds() {
        let mut breaker = Breaker::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let pause = breaker.broke(now);
            pauses.push(pause.as_secs());
            assert!(breaker.ejected_until(now).is_some());
            now += pause;
            assert!(breaker.ejected_until(now).is_none(), "its time is over");
        }
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        breaker.answered();
        assert_eq!(breaker.broke(now).as_secs(), 1, "an answer makes all good");
    }

    #[test]
    fn failures_while_it_is_ejected_do_not_prolong_it() {
        let mut breaker = Breaker::default();
        let now = Instant::now();
        breaker.broke(now);
        assert_eq!(
            breaker.broke(now + Duration::from_millis(400)),
            Duration::from_millis(600)
        );
    }

    #[test]
    fn never_more_than_half_are_left_alone_unless_that_is_all() {
        let now = Instant::now();
        let out = |seconds: u64| Some(now + Duration::from_secs(seconds));
        for (ejected, wanted) in [
            (vec![], vec![]),
            (vec![None], vec![true]),
            (vec![out(1)], vec![true]),
            (vec![out(1), None], vec![false, true]),
            (vec![out(1), out(2)], vec![true, true]),
            (vec![out(1), out(2), None], vec![true, false, true]),
            (vec![out(3), out(2), out(1), None], vec![false, false, true, true]),
        ] {
            assert_eq!(admissible(&ejected), wanted, "{ejected:?}");
        }
    }
}
