//! How many requests may be sent again: a fifth of all, so that a fleet in trouble is not asked three times as much.

use std::sync::Mutex;
use std::sync::PoisonError;

/// What one request earns, in thousandths of a retry.
const EARNED: u32 = 200;
const COST: u32 = 1000;
/// What a quiet server may spend at once.
const MOST: u32 = 10 * COST;
/// So that the first requests of a server may be sent again too.
const START: u32 = 3 * COST;

/// A token bucket.
#[derive(Debug)]
pub(crate) struct Budget(Mutex<u32>);

impl Default for Budget {
    fn default() -> Self {
        Self(Mutex::new(START))
    }
}

impl Budget {
    /// A request came.
    pub(crate) fn earn(&self) {
        let mut saved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *saved = (*saved + EARNED).min(MOST);
    }

    /// Whether one may be sent again.
    pub(crate) fn spend(&self) -> bool {
        let mut saved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = *saved >= COST;
        if enough {
            *saved -= COST;
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
        while budget.spend() {}
        let mut spent = 0;
        for _ in 0..1000 {
            budget.earn();
            spent += u32::from(budget.spend());
        }
        assert_eq!(spent, 200);
    }

    #[test]
    fn a_quiet_server_saves_up_ten_and_no_more() {
        let budget = Budget::default();
        for _ in 0..1000 {
            budget.earn();
        }
        assert_eq!((0..1000).filter(|_| budget.spend()).count(), 10);
    }
}
