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
const LONGEST: Duration = Duration::from_secs(40);

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

    /// In how long the first replica of a cluster is given up that the watch has yet to show; `None`: it has shown all. Somebody must
    /// look again then, as nobody tells of what was never made.
    pub(crate) fn gives_up(&self, cluster: &str) -> Option<Duration> {
        self.gives_up_at(cluster, Instant::now())
    }

    fn gives_up_at(&self, cluster: &str, now: Instant) -> Option<Duration> {
        let expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_cluster = expected
            .values()
            .filter(|(replica, _)| replica.spec.cluster == cluster);
        let left = of_cluster.map(|(_, since)| LONGEST.saturating_sub(now.duration_since(*since)));
        left.filter(|left| !left.is_zero()).min()
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
        assert!(expectations.gives_up("default").is_some() && expectations.gives_up("other").is_none());

        let mut seen = vec![made.clone()];
        expectations.complete(&mut seen);
        assert_eq!(seen.len(), 1, "shown: not counted twice");
        let mut seen = vec![];
        expectations.complete(&mut seen);
        assert!(seen.is_empty(), "shown once and gone again: it is gone");
        assert_eq!(expectations.gives_up("default"), None);
    }

    #[test]
    fn what_is_never_shown_is_forgotten() {
        let expectations = Expectations::default();
        expectations.expect(&[replica("a-1-x", 1, "node", "gpu-0")]);
        let mut seen = vec![];
        expectations.complete_at(&mut seen, Instant::now() + LONGEST);
        assert!(seen.is_empty());
    }

    #[test]
    fn a_look_in_between_puts_off_nothing() {
        let (expectations, start) = (Expectations::default(), Instant::now());
        expectations.expect_at(&[replica("a-1-x", 1, "node", "gpu-0")], start);
        let after = |seconds| start + Duration::from_secs(seconds);
        expectations.expect_at(&[replica("a-1-y", 1, "node", "gpu-1")], after(10));
        let left = |seconds| expectations.gives_up_at("default", after(seconds));
        assert_eq!(left(0), Some(LONGEST));
        assert_eq!(left(30), Some(Duration::from_secs(10)), "the first of the two");
        assert_eq!(left(40), Some(Duration::from_secs(10)), "the second");
        assert_eq!(left(50), None);
    }
}
