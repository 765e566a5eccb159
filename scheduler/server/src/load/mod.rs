//! How busy replicas are: what their nodes report, what this scheduler has sent them since, and whether they answer at all.

mod health;
mod streams;
mod tracker;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use afterglow_proto::load::Report;

use crate::fleet::Fleet;

pub(crate) use health::{Health, Origin};
pub(crate) use streams::follow;
pub(crate) use tracker::{Flight, Tracker};

/// A report that is older says nothing any more: nodes report at least once a second.
pub(crate) const STALE: Duration = Duration::from_secs(3);

/// What is known of the replicas, by what their engines call them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    origin: Origin,
    replicas: RwLock<HashMap<String, Arc<Tracker>>>,
    /// When each node was heard last, or seen first.
    heard: Mutex<HashMap<String, Heard>>,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Instant,
    /// Whether anything was heard.
    ever: bool,
}

impl Table {
    /// With time and chance given.
    pub(crate) fn new(origin: Origin) -> Self {
        Self {
            origin,
            ..Self::default()
        }
    }

    /// What is known of one replica, which is on `node`; made on first sight.
    pub(crate) fn tracker(&self, engine_model: &str, node: &str) -> Arc<Tracker> {
        let known = self.replicas.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(tracker) = known.get(engine_model) {
            return tracker.clone();
        }
        drop(known);
        let mut known = self.replicas.write().unwrap_or_else(PoisonError::into_inner);
        let tracker = known.entry(engine_model.to_owned());
        tracker
            .or_insert_with(|| Arc::new(Tracker::new(node, self.origin)))
            .clone()
    }

    /// Takes a node's report: of all its replicas, those that it does not name included.
    pub(crate) fn report(&self, node: &str, report: &Report, now: Instant) {
        lock(&self.heard).insert(node.to_owned(), Heard { at: now, ever: true });
        let known = self.replicas.read().unwrap_or_else(PoisonError::into_inner);
        for (name, tracker) in known.iter().filter(|(_, tracker)| tracker.node == node) {
            let model = report.models.iter().find(|model| model.name == *name);
            if tracker.report(model, report.draining, now) {
                tracing::warn!(
                    replica = name,
                    node,
                    "it runs and finishes nothing; it is left alone for a while"
                );
            }
        }
    }

    /// Takes in what is new in the fleet, and forgets what is not there any more.
    pub(crate) fn keep(&self, fleet: &Fleet, now: Instant) {
        for replica in fleet.replicas() {
            // Reports are taken for replicas that are known: make them so before the first request.
            self.tracker(&replica.engine_model, &replica.node);
        }
        self.replicas
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|name, tracker| {
                let stays = fleet.replicas().any(|replica| replica.engine_model == *name);
                stays || tracker.in_flight() > 0
            });
        let mut heard = lock(&self.heard);
        heard.retain(|node, _| fleet.load.contains_key(node));
        for node in fleet.load.keys() {
            let first = Heard { at: now, ever: false };
            heard.entry(node.clone()).or_insert(first);
        }
    }

    /// How long nothing was heard of a node; of one that does not report at all silence means nothing.
    pub(crate) fn silent(&self, node: &str, now: Instant) -> Duration {
        let heard = lock(&self.heard).get(node).map(|heard| heard.at);
        heard.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// How long ago each node was heard.
    pub(crate) fn ages(&self, now: Instant) -> Vec<(String, Duration)> {
        let heard = lock(&self.heard);
        heard
            .iter()
            .filter(|(_, heard)| heard.ever)
            .map(|(node, heard)| (node.clone(), now.saturating_duration_since(heard.at)))
            .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use afterglow_proto::load::Model;

    use super::*;

    #[test]
    fn a_replica_that_is_gone_is_forgotten_when_its_last_request_is_over() {
        let (table, now) = (Table::default(), Instant::now());
        let flight = table.tracker("a", "n").begin();
        table.keep(&Fleet::default(), now);
        assert_eq!(table.tracker("a", "n").in_flight(), 1, "still under way");
        drop(flight);
        table.keep(&Fleet::default(), now);
        assert!(table.replicas.read().unwrap().is_empty());
    }

    #[test]
    fn a_node_is_silent_from_its_first_sight_and_heard_when_it_reports() {
        let (table, now) = (Table::default(), Instant::now());
        let fleet = Fleet {
            load: [("n".to_owned(), "10.0.0.1:9400".to_owned())].into(),
            ..Fleet::default()
        };
        table.keep(&fleet, now);
        let later = now + STALE;
        assert_eq!(table.silent("n", later), STALE);
        assert_eq!(
            table.silent("other", later),
            Duration::ZERO,
            "it has never promised to report"
        );
        assert!(table.ages(later).is_empty());
        table.report("n", &Report::default(), later);
        assert_eq!(table.silent("n", later), Duration::ZERO);
        assert_eq!(table.ages(later), [("n".to_owned(), Duration::ZERO)]);
    }

    #[test]
    fn a_report_speaks_for_all_replicas_of_its_node_and_for_no_other() {
        let (table, now) = (Table::default(), Instant::now());
        let [named, unnamed, elsewhere] =
            [("a", "n"), ("b", "n"), ("c", "m")].map(|(name, node)| table.tracker(name, node));
        let report = Report {
            models: vec![Model {
                name: "a".into(),
                ready: true,
                ..Model::default()
            }],
            ..Report::default()
        };
        table.report("n", &report, now);
        assert!(named.load(now).accepts);
        assert!(!unnamed.load(now).accepts, "the node does not have it");
        assert!(elsewhere.load(now).accepts);
    }
}
