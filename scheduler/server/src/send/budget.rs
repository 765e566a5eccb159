//! How many requests may be sent again: a fifth of all, so that a fleet in trouble is not asked three times as much.
//!
//! Two buckets, so that full queues, which are many and last, cannot use up what is there for engines that die, which are few and
//! take all that is under way there at once. Together they give a fifth.

use std::sync::Mutex;
use std::sync::PoisonError;

/// What it costs to send one again; a request earns parts of it.
const COST: u32 = 1000;

/// Something to begin with, so that the first requests of a server may be sent again too.
const SAVED_BREAKING: u32 = 20;
const SAVED_DECLINING: u32 = 3;

/// After what a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The engine has broken off, failed or kept silent; a quiet server saves up so many that all that an engine had under way
    /// can go elsewhere.
    Breaking,
    /// The engine has said that it cannot.
    Declining,
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    saved: u32,
    earned: u32,
    most: u32,
}

/// Both buckets.
#[derive(Debug)]
pub(crate) struct Budget(Mutex<[Bucket; 2]>);

impl Default for Budget {
    fn default() -> Self {
        let breaking = Bucket {
            saved: SAVED_BREAKING * COST,
            earned: 150,
            most: 500 * COST,
        };
        let declining = Bucket {
            saved: SAVED_DECLINING * COST,
            earned: 50,
            most: 10 * COST,
        };
        Self(Mutex::new([breaking, declining]))
    }
}

impl Budget {
    /// How many requests may be sent again before any has come.
    pub(crate) const SAVED: u64 = (SAVED_BREAKING + SAVED_DECLINING) as u64;

    /// A request came.
    pub(crate) fn earn(&self) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for bucket in buckets.iter_mut() {
            bucket.saved = (bucket.saved + bucket.earned).min(bucket.most);
        }
    }

    /// Whether one may be sent again.
    pub(crate) fn spend(&self, after: After) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [breaking, declining] = &mut *buckets;
        let bucket = match after {
            After::Breaking => breaking,
            After::Declining => declining,
        };
        let enough = bucket.saved >= COST;
        if enough {
            bucket.saved -= COST;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_requests_may_be_sent_again() {
        let budget = Budget::default();
        let spend = || u32::from(budget.spend(After::Breaking)) + u32::from(budget.spend(After::Declining));
        while spend() > 0 {}
        let mut spent = 0;
        for _ in 0..1000 {
            budget.earn();
            spent += spend();
        }
        assert_eq!(spent, 200);
    }

    #[test]
    fn a_quiet_server_saves_up_for_an_engine_that_dies_and_little_for_full_queues() {
        let budget = Budget::default();
        for _ in 0..10_000 {
            budget.earn();
        }
        let all = |after| (0..1000).filter(|_| budget.spend(after)).count();
        assert_eq!((all(After::Breaking), all(After::Declining)), (500, 10));
    }

    #[test]
    fn full_queues_take_nothing_from_what_is_there_for_engines_that_die() {
        let budget = Budget::default();
        while budget.spend(After::Declining) {}
        assert!(budget.spend(After::Breaking));
    }
}
