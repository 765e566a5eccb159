//! Replicas that were planned or made and that the watch has not shown yet.
//!
//! Without them a second plan, made before the first one's replicas come back through the watch, would give away the same
//! memory twice, or place the same replica on a second device.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use afterglow_crds::ModelReplica;
use kube::ResourceExt as _;

use crate::queue::Key;

/// By then the watch has shown it: a watch lasts 25 s, its next list 10 s at most. Else it came and went in between.
pub(crate) const LONGEST: Duration = Duration::from_secs(40);

/// The memory; shared by all reconciles.
#[derive(Debug, Default)]
pub struct Expectations(Mutex<HashMap<Key, (ModelReplica, Instant)>>);

impl Expectations {
    /// From now on these are there, as far as plans are concerned.
    pub(crate) fn expect(&self, replicas: &[ModelReplica]) {
        self.expect_at(replicas, Instant::now());
    }

    /// [`Expectations::expect`] at a given time.
    pub fn expect_at(&self, replicas: &[ModelReplica], now: Instant) {
        let mut expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for replica in replicas {
            expected.insert(Key::of(replica), (replica.clone(), now));
        }
    }

    /// It could not be made.
    pub fn forget(&self, replica: &ModelReplica) {
        let mut expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        expected.remove(&Key::of(replica));
    }

    /// Whether the watch has yet to show a replica of a cluster. It may never: somebody must look again when it is forgotten.
    pub(crate) fn awaits(&self, cluster: &str) -> bool {
        let expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        expected
            .values()
            .any(|(replica, since)| replica.spec.cluster == cluster && since.elapsed() < LONGEST)
    }

    /// Adds to what the watch has shown what it has not shown yet.
    pub(crate) fn complete(&self, seen: &mut Vec<ModelReplica>) {
        self.complete_at(seen, Instant::now());
    }

    /// [`Expectations::complete`] at a given time.
    pub fn complete_at(&self, seen: &mut Vec<ModelReplica>, now: Instant) {
        let mut expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if expected.is_empty() {
            return;
        }
        let names: HashSet<Key> = seen.iter().map(Key::of).collect();
        expected.retain(|key, (_, since)| !names.contains(key) && now.duration_since(*since) < LONGEST);
        let mut missing: Vec<ModelReplica> = expected.values().map(|(replica, _)| replica.clone()).collect();
        missing.sort_by_key(|replica| (replica.namespace(), replica.name_any()));
        seen.extend(missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::fixtures::replica;

    #[test]
    fn what_was_made_counts_until_the_watch_shows_it() {
        let expectations = Expectations::default();
        let made = replica("a-1-x", 1, "node", "gpu-0");
        expectations.expect(std::slice::from_ref(&made));
        let mut seen = vec![];
        expectations.complete(&mut seen);
        assert_eq!(seen, std::slice::from_ref(&made), "not shown yet");
        assert!(expectations.awaits("default") && !expectations.awaits("other"));

        let mut seen = vec![made.clone()];
        expectations.complete(&mut seen);
        assert_eq!(seen.len(), 1, "shown: not counted twice");
        let mut seen = vec![];
        expectations.complete(&mut seen);
        assert!(seen.is_empty(), "shown once and gone again: it is gone");
        assert!(!expectations.awaits("default"));
    }

    #[test]
    fn what_is_never_shown_is_forgotten() {
        let expectations = Expectations::default();
        expectations.expect(&[replica("a-1-x", 1, "node", "gpu-0")]);
        let mut seen = vec![];
        expectations.complete_at(&mut seen, Instant::now() + LONGEST);
        assert!(seen.is_empty());
    }
}
