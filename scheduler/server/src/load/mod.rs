//! How busy replicas are: what their nodes report, what this scheduler has sent them since, and whether they answer at all.

mod breaker;
mod streams;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use afterglow_proto::load::Report;

pub(crate) use breaker::{Breaker, admissible};
pub(crate) use streams::follow;

/// A report that is older says nothing any more: nodes report at least once a second.
pub(crate) const STALE: Duration = Duration::from_secs(3);

/// What is known of the replicas, by what their engines call them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    replicas: RwLock<HashMap<String, Arc<Tracker>>>,
    /// When each node was heard last.
    heard: Mutex<HashMap<String, Instant>>,
}

impl Table {
    /// What is known of one replica; made on first sight.
    pub(crate) fn tracker(&self, engine_model: &str) -> Arc<Tracker> {
        let known = self.replicas.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(tracker) = known.get(engine_model) {
            return tracker.clone();
        }
        drop(known);
        let mut known = self.replicas.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(engine_model.to_owned()).or_default().clone()
    }

    /// Takes a node's report.
    pub(crate) fn report(&self, node: &str, report: &Report, now: Instant) {
        lock(&self.heard).insert(node.to_owned(), now);
        let known = self.replicas.read().unwrap_or_else(PoisonError::into_inner);
        for model in &report.models {
            let Some(tracker) = known.get(&model.name) else {
                continue;
            };
            let sent = tracker.in_flight();
            lock(&tracker.state).report = Some(Reported {
                at: now,
                sent,
                accepts: model.ready && !report.draining,
                waiting: model.waiting,
                running: model.running,
                max_batch_size: model.max_batch_size,
                run_microseconds: model.run_microseconds,
            });
        }
    }

    /// Forgets what is not there any more.
    pub(crate) fn keep(&self, stays: impl Fn(&str) -> bool, node_stays: impl Fn(&str) -> bool) {
        self.replicas
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|name, tracker| stays(name) || tracker.in_flight() > 0);
        lock(&self.heard).retain(|node, _| node_stays(node));
    }

    /// How long ago each node was heard.
    pub(crate) fn ages(&self, now: Instant) -> Vec<(String, Duration)> {
        let heard = lock(&self.heard);
        heard
            .iter()
            .map(|(node, at)| (node.clone(), now.saturating_duration_since(*at)))
            .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of one replica.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    in_flight: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    report: Option<Reported>,
    breaker: Breaker,
}

#[derive(Debug, Clone, Copy)]
struct Reported {
    at: Instant,
    /// Requests of this scheduler that were under way when the report came: it counts them.
    sent: u32,
    accepts: bool,
    waiting: u32,
    running: u32,
    max_batch_size: u32,
    run_microseconds: u64,
}

/// The load of a replica as it is to be believed now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) waiting: u32,
    pub(crate) running: u32,
    /// 0 = unknown.
    pub(crate) max_batch_size: u32,
    /// 0 = unknown.
    pub(crate) run_microseconds: u64,
    /// `None`: nothing that could be believed.
    pub(crate) age: Option<Duration>,
    /// Whether the node says that it takes requests; silence is consent.
    pub(crate) accepts: bool,
}

impl Tracker {
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A request is on its way; it is over when the guard goes.
    pub(crate) fn begin(self: &Arc<Self>) -> Flight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Flight(self.clone())
    }

    /// What to believe: a fresh report and what was sent since, or only what this scheduler itself has under way.
    pub(crate) fn load(&self, now: Instant) -> Load {
        let own = self.in_flight();
        let report = lock(&self.state).report;
        let fresh = report.filter(|report| now.saturating_duration_since(report.at) < STALE);
        match fresh {
            Some(report) => Load {
                waiting: report.waiting.saturating_add(own.saturating_sub(report.sent)),
                running: report.running,
                max_batch_size: report.max_batch_size,
                run_microseconds: report.run_microseconds,
                age: Some(now.saturating_duration_since(report.at)),
                accepts: report.accepts,
            },
            None => Load {
                waiting: own,
                // Speed and batch size do not grow old.
                max_batch_size: report.map_or(0, |report| report.max_batch_size),
                run_microseconds: report.map_or(0, |report| report.run_microseconds),
                accepts: true,
                ..Load::default()
            },
        }
    }

    /// When the replica may be used again, if it was ejected.
    pub(crate) fn ejected_until(&self, now: Instant) -> Option<Instant> {
        lock(&self.state).breaker.ejected_until(now)
    }

    /// The connection was refused or broke.
    pub(crate) fn broke(&self, now: Instant) -> Duration {
        lock(&self.state).breaker.broke(now)
    }

    /// It answered, whatever it said.
    pub(crate) fn answered(&self) {
        lock(&self.state).breaker.answered();
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Flight(Arc<Tracker>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use afterglow_proto::load::Model;

    use super::*;

    fn report(waiting: u32, running: u32) -> Report {
        Report {
            models: vec![Model {
                name: "a".into(),
                ready: true,
                waiting,
                running,
                max_batch_size: 8,
                run_microseconds: 500,
                ..Model::default()
            }],
            ..Report::default()
        }
    }

    #[test]
    fn what_was_sent_since_a_report_is_added_to_it_and_what_it_counted_is_not() {
        let table = Table::default();
        let tracker = table.tracker("a");
        let now = Instant::now();
        let before = tracker.begin();
        table.report("n", &report(3, 1), now);
        let after = tracker.begin();
        let load = tracker.load(now);
        assert_eq!((load.waiting, load.running, load.max_batch_size), (4, 1, 8));
        drop((before, after));
        assert_eq!(tracker.load(now).waiting, 3);
        assert_eq!(tracker.in_flight(), 0);
    }

    #[test]
    fn a_silent_node_makes_the_load_unknown_not_the_replica_dead() {
        let table = Table::default();
        let tracker = table.tracker("a");
        let now = Instant::now();
        table.report("n", &report(30, 1), now);
        let _one = tracker.begin();
        let load = tracker.load(now + STALE);
        assert_eq!((load.waiting, load.running, load.age), (1, 0, None));
        assert!(load.accepts, "silence says nothing");
        assert_eq!(load.run_microseconds, 500, "speed does not grow old");
        assert_eq!(table.ages(now + STALE), [("n".to_owned(), STALE)]);
    }

    #[test]
    fn a_replica_that_is_gone_is_forgotten_when_its_last_request_is_over() {
        let table = Table::default();
        let flight = table.tracker("a").begin();
        table.keep(|_| false, |_| false);
        assert_eq!(table.tracker("a").in_flight(), 1, "still under way");
        drop(flight);
        table.keep(|_| false, |_| false);
        assert!(table.replicas.read().unwrap().is_empty());
    }
}
