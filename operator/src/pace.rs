//! How long an object that failed waits for its next turn: longer each time, and each object by itself.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::queue::Key;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);

/// Failures in a row, by object.
#[derive(Debug, Default)]
pub struct Pace(Mutex<HashMap<Key, u32>>);

impl Pace {
    /// It failed once more: how long to wait. The API server's own wish counts where it is longer.
    pub fn failed(&self, key: Key, asked: Option<Duration>) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = failures.entry(key).or_default();
        let wait = FIRST.saturating_mul(1 << (*count).min(16)).min(LONGEST);
        *count = count.saturating_add(1);
        asked.map_or(wait, |asked| asked.max(wait))
    }

    /// It worked: the next failure is the first again.
    pub fn worked(&self, key: &Key) {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_waits_by_itself_up_to_five_minutes() {
        let pace = Pace::default();
        let poison = Key::within("n", "poison");
        let waits: Vec<u64> = (0..12)
            .map(|_| pace.failed(poison.clone(), None).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(pace.failed(Key::within("n", "other"), None), FIRST);
        pace.worked(&poison);
        assert_eq!(pace.failed(poison.clone(), None), FIRST);
        assert_eq!(
            pace.failed(poison, Some(Duration::from_secs(30))),
            Duration::from_secs(30),
            "Retry-After is obeyed"
        );
    }
}
