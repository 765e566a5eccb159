//! What is known of one replica: its node's last report, what this scheduler has under way there, and its health.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use afterglow_policy::breaker::Event;
use afterglow_proto::load::Model;

use super::{Health, Origin, STALE, lock};

/// A replica that runs something, and finishes nothing for so long, or for [`HANGS_RUNS`] of its runs, hangs.
const HANGS: Duration = Duration::from_secs(5);
const HANGS_RUNS: u64 = 8;

/// What is known of one replica.
#[derive(Debug)]
pub(crate) struct Tracker {
    pub(super) node: String,
    in_flight: AtomicU32,
    report: Mutex<Option<Reported>>,
    pub(crate) health: Health,
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
    /// Runs since the engine started, and since when that number stands while something runs.
    runs: u64,
    stands_since: Instant,
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
    /// Whether the node says that it takes requests. Silence is consent, but a refusal stands until it is taken back: a node
    /// that said farewell says nothing more.
    pub(crate) accepts: bool,
}

impl Tracker {
    pub(super) fn new(node: &str, origin: Origin) -> Self {
        Self {
            node: node.to_owned(),
            in_flight: AtomicU32::new(0),
            report: Mutex::default(),
            health: Health::new(origin),
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A request is on its way; it is over when the guard goes.
    pub(crate) fn begin(self: &Arc<Self>) -> Flight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Flight(self.clone())
    }

    /// Takes what its node reports of it; `None`: the node does not have it. Answers whether it was found to hang.
    pub(super) fn report(&self, model: Option<&Model>, draining: bool, now: Instant) -> bool {
        let mut report = lock(&self.report);
        let Some(model) = model else {
            if let Some(report) = report.as_mut() {
                report.accepts = false;
            } else {
                *report = Some(Reported::absent(now));
            }
            return false;
        };
        let stands_since = report
            .filter(|before| before.runs == model.runs && before.running > 0 && model.running > 0)
            .map_or(now, |before| before.stands_since);
        let accepts = model.ready && !draining;
        *report = Some(Reported {
            at: now,
            sent: self.in_flight(),
            accepts,
            waiting: model.waiting,
            running: model.running,
            max_batch_size: model.max_batch_size,
            run_microseconds: model.run_microseconds,
            runs: model.runs,
            stands_since,
        });
        drop(report);
        // Before its first run is over nobody knows how long one takes.
        let patience = Duration::from_micros(model.run_microseconds.saturating_mul(HANGS_RUNS)).max(HANGS);
        if model.runs > 0 && now.saturating_duration_since(stands_since) >= patience {
            return self.health.learn(Event::Hung, now).is_some();
        }
        if accepts {
            self.health.learn(Event::Listed, now);
        }
        false
    }

    /// What to believe: a fresh report and what was sent since, or only what this scheduler itself has under way.
    pub(crate) fn load(&self, now: Instant) -> Load {
        let own = self.in_flight();
        let report = *lock(&self.report);
        let fresh = report.filter(|report| now.saturating_duration_since(report.at) < STALE);
        match fresh {
            Some(report) => Load {
                // What is under way here and does not run there waits, whatever the report says: one that hangs, and reports the
                // same for ever, attracts nothing.
                waiting: report
                    .waiting
                    .saturating_add(own.saturating_sub(report.sent))
                    .max(own.saturating_sub(report.running)),
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
                accepts: report.is_none_or(|report| report.accepts),
                ..Load::default()
            },
        }
    }
}

impl Reported {
    fn absent(now: Instant) -> Self {
        Self {
            at: now,
            sent: 0,
            accepts: false,
            waiting: 0,
            running: 0,
            max_batch_size: 0,
            run_microseconds: 0,
            runs: 0,
            stands_since: now,
        }
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
    use afterglow_policy::breaker::Standing;

    use super::*;

    fn model(waiting: u32, running: u32) -> Model {
        Model {
            name: "a".into(),
            ready: true,
            waiting,
            running,
            max_batch_size: 8,
            run_microseconds: 500,
            runs: 7,
            ..Model::default()
        }
    }

    #[test]
    fn what_was_sent_since_a_report_is_added_to_it_and_what_it_counted_is_not() {
        let tracker = Arc::new(Tracker::new("n", Origin::default()));
        let now = Instant::now();
        let before = tracker.begin();
        tracker.report(Some(&model(3, 1)), false, now);
        let after = tracker.begin();
        let load = tracker.load(now);
        assert_eq!((load.waiting, load.running, load.max_batch_size), (4, 1, 8));
        drop((before, after));
        assert_eq!(tracker.load(now).waiting, 3);
        assert_eq!(tracker.in_flight(), 0);
    }

    #[test]
    fn what_is_under_way_here_and_does_not_run_there_waits_whatever_the_report_says() {
        let tracker = Arc::new(Tracker::new("n", Origin::default()));
        let now = Instant::now();
        let flights: Vec<_> = (0..9).map(|_| tracker.begin()).collect();
        tracker.report(Some(&model(0, 1)), false, now);
        assert_eq!(tracker.load(now).waiting, 8);
        drop(flights);
        assert_eq!(tracker.load(now).waiting, 0);
    }

    #[test]
    fn a_silent_node_makes_the_load_unknown_not_the_replica_dead() {
        let tracker = Arc::new(Tracker::new("n", Origin::default()));
        let now = Instant::now();
        tracker.report(Some(&model(30, 1)), false, now);
        let _one = tracker.begin();
        let load = tracker.load(now + STALE);
        assert_eq!((load.waiting, load.running, load.age), (1, 0, None));
        assert!(load.accepts, "silence says nothing");
        assert_eq!(load.run_microseconds, 500, "speed does not grow old");
    }

    #[test]
    fn a_refusal_stands_until_it_is_taken_back() {
        let tracker = Tracker::new("n", Origin::default());
        let now = Instant::now();
        tracker.report(Some(&model(0, 0)), true, now);
        assert!(!tracker.load(now + 10 * STALE).accepts, "it said farewell");
        tracker.report(Some(&model(0, 0)), false, now);
        assert!(tracker.load(now).accepts);
        tracker.report(None, false, now);
        assert!(!tracker.load(now).accepts, "its node does not have it");
        assert_eq!(tracker.load(now).run_microseconds, 500);
    }

    #[test]
    fn one_that_runs_and_finishes_nothing_is_found_to_hang() {
        let tracker = Tracker::new("n", Origin::default());
        let now = Instant::now();
        let busy = |runs| Model { runs, ..model(0, 1) };
        assert!(!tracker.report(Some(&busy(1)), false, now));
        assert!(
            !tracker.report(Some(&busy(2)), false, now + HANGS),
            "it has finished one"
        );
        assert!(
            !tracker.report(Some(&model(0, 0)), false, now + 2 * HANGS),
            "it is idle"
        );
        assert!(!tracker.report(Some(&busy(7)), false, now + 2 * HANGS));
        assert_eq!(tracker.health.standing(now + 2 * HANGS), Standing::Well);
        assert!(tracker.report(Some(&busy(7)), false, now + 3 * HANGS));
        assert!(tracker.health.standing(now + 3 * HANGS) > Standing::MayProbe);
    }
}
