//! For how long nothing has got further with a deployment, by this process' own clock.
//!
//! The times in objects are no measure for it: the API server, the agents and earlier leaders wrote them by clocks of their own, and
//! any of those may be off or jump. So what counts, as with agents' leases ([`liveness`](crate::liveness)), is when this operator
//! *saw* something change. A new leader has seen nothing yet and counts anew: it calls nobody late too early, and at most one
//! deadline too late. What is called late already stays so, whoever leads, until something gets further.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use afterglow_crds::condition::{self, PROGRESSING};

use super::gather::Facts;
use super::plan::{Applied, Plan};
use super::view::View;
use crate::queue::Key;

/// Reason of what waited for longer than it should.
pub(super) const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
/// Deployments that wait are looked at every five minutes at least: one that is not is gone.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);

/// Since when each deployment waits; shared by all reconciles of a term.
#[derive(Debug, Default)]
pub struct Progress(Mutex<HashMap<Key, Wait>>);

/// One that waits.
#[derive(Debug)]
struct Wait {
    mark: Mark,
    /// When something was seen to get further; `None`: before this operator's time, and longer ago than the deadline.
    since: Option<Instant>,
    asked: Instant,
}

/// What getting further leaves behind.
#[derive(Debug)]
struct Mark {
    /// The object and its wish: with a new one everything begins anew.
    wish: (Option<String>, Option<i64>),
    /// Replicas of the newest revision that exist.
    made: BTreeSet<String>,
    /// Of them, those that serve.
    serving: BTreeSet<String>,
}

impl Mark {
    fn of(view: &View<'_>) -> Self {
        let meta = &view.facts.deployment.metadata;
        Self {
            wish: (meta.uid.clone(), meta.generation),
            // One that was only planned has no uid: it may never be.
            made: view
                .newest()
                .filter_map(|replica| replica.metadata.uid.clone())
                .collect(),
            serving: view
                .newest()
                .filter(|replica| view.serves(replica))
                .filter_map(|replica| replica.metadata.uid.clone())
                .collect(),
        }
    }

    fn is_further_than(&self, before: &Self) -> bool {
        self.wish != before.wish
            || !self.made.is_subset(&before.made)
            || !self.serving.is_subset(&before.serving)
    }
}

impl Progress {
    /// For how long nothing has got further: no replica was made or became ready, nothing else was wished. Nothing at all where
    /// nothing is waited for.
    pub(crate) fn waited(&self, facts: &Facts, plan: &Plan<Applied>) -> Duration {
        self.waited_at(facts, plan, Instant::now())
    }

    /// [`Progress::waited`] at a given time.
    pub fn waited_at(&self, facts: &Facts, plan: &Plan<Applied>, now: Instant) -> Duration {
        let (view, key) = (View::new(facts, plan), Key::of(&facts.deployment));
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.retain(|_, wait| now.saturating_duration_since(wait.asked) < FORGOTTEN_AFTER);
        if !view.is_behind() {
            waits.remove(&key);
            return Duration::ZERO;
        }
        let mark = Mark::of(&view);
        let since = match waits.entry(key) {
            Entry::Vacant(new) => {
                let since = (!is_called_late(&view)).then_some(now);
                new.insert(Wait {
                    mark,
                    since,
                    asked: now,
                });
                since
            }
            Entry::Occupied(mut known) => {
                let wait = known.get_mut();
                if mark.is_further_than(&wait.mark) {
                    wait.since = Some(now);
                }
                (wait.mark, wait.asked) = (mark, now);
                wait.since
            }
        };
        since.map_or(Duration::MAX, |since| now.saturating_duration_since(since))
    }
}

/// Whether the status says that it is late, and nothing has got further since that was written.
fn is_called_late(view: &View<'_>) -> bool {
    let deployment = &view.facts.deployment;
    let Some(status) = &deployment.status else {
        return false;
    };
    let fits = |count: usize, known: i32| i32::try_from(count).is_ok_and(|count| count <= known);
    condition::find(&status.conditions, PROGRESSING).is_some_and(|said| said.reason == DEADLINE_EXCEEDED)
        && status.observed_generation == deployment.metadata.generation
        && fits(view.newest().count(), status.updated_replicas)
        && fits(view.ready, status.ready_replicas)
}

#[cfg(test)]
mod tests {
    use afterglow_crds::ModelReplica;
    use serde_json::json;

    use super::*;
    use crate::deployment::fixtures::{
        GI, done, facts, gpu_node, object, ready, replica, saying, settled, turn, with,
    };
    use crate::deployment::status;

    /// Two of `bert` are wanted, and these exist.
    fn having(replicas: Vec<ModelReplica>) -> Facts {
        let nodes = ["a", "b"].map(|name| gpu_node(name, &[8 * GI]));
        settled(with(facts(json!({ "replicas": 2 }), nodes.into()), replicas), 1)
    }

    fn loading(name: &str, node: &str) -> ModelReplica {
        saying(replica(name, 1, node, "gpu-0"), "False", "Loading", "")
    }

    fn serving(name: &str, node: &str) -> ModelReplica {
        ready(replica(name, 1, node, "gpu-0"))
    }

    /// An operator, and when it began.
    struct Leader(Progress, Instant);

    impl Leader {
        fn new() -> Self {
            Self(Progress::default(), Instant::now())
        }

        /// How many seconds it says were waited, so many seconds after it began.
        fn waited(&self, second: u64, facts: &Facts) -> u64 {
            let now = self.1 + Duration::from_secs(second);
            self.0.waited_at(facts, &done(turn(facts)), now).as_secs()
        }
    }

    #[test]
    fn the_deadline_counts_from_the_progress_that_this_operator_saw_whatever_the_times_in_objects_say() {
        for year in [1970, 2026, 2099] {
            let leader = Leader::new();
            let dated = |mut replica: ModelReplica| {
                let time = format!("{year}-01-01T00:00:00Z");
                replica.metadata.creation_timestamp = Some(object(json!(time)));
                if let Some(status) = &mut replica.status {
                    status.conditions[0].last_transition_time = object(json!(time));
                }
                replica
            };
            let one = having(vec![dated(loading("x", "a"))]);
            assert_eq!(leader.waited(0, &one), 0, "{year}: it was just seen");
            assert_eq!(leader.waited(50, &one), 50, "{year}");
            let two = having(vec![dated(loading("x", "a")), dated(loading("y", "b"))]);
            assert_eq!(leader.waited(60, &two), 0, "{year}: a replica was made");
            let half = having(vec![dated(serving("x", "a")), dated(loading("y", "b"))]);
            assert_eq!(leader.waited(70, &half), 0, "{year}: one became ready");
            assert_eq!(leader.waited(700, &half), 630, "{year}");
        }
    }

    #[test]
    fn what_is_lost_is_no_progress_and_what_comes_back_is() {
        let leader = Leader::new();
        let half = having(vec![serving("x", "a"), loading("y", "b")]);
        let none = having(vec![loading("x", "a"), loading("y", "b")]);
        leader.waited(0, &half);
        assert_eq!(leader.waited(30, &none), 30);
        assert_eq!(leader.waited(40, &half), 0);
    }

    #[test]
    fn counting_begins_when_it_stops_being_ready_and_when_something_else_is_wished() {
        let leader = Leader::new();
        let all = having(vec![serving("x", "a"), serving("y", "b")]);
        let mut half = having(vec![serving("x", "a"), loading("y", "b")]);
        assert_eq!(leader.waited(0, &half), 0);
        assert_eq!(leader.waited(100, &all), 0, "nothing is waited for");
        assert_eq!(leader.waited(5000, &half), 0);
        assert_eq!(leader.waited(5100, &half), 100);
        half.deployment.metadata.generation = Some(2);
        assert_eq!(leader.waited(5200, &half), 0);
    }

    #[test]
    fn a_new_leader_counts_anew_and_what_is_called_late_stays_late_until_something_gets_further() {
        let mut half = having(vec![serving("x", "a"), loading("y", "b")]);
        let now = "2026-01-01T00:01:00Z".parse().expect("a time");
        let plan = done(turn(&half));
        let (in_time, again) = status(&half, &plan, Duration::from_secs(599), now);
        assert_eq!(again, Some(Duration::from_secs(1)));
        half.deployment.status = Some(in_time);
        assert_eq!(Leader::new().waited(0, &half), 0);

        let (late, again) = status(&half, &plan, Duration::from_mins(10), now);
        assert_eq!(again, None);
        half.deployment.status = Some(late.clone());
        let leader = Leader::new();
        let waited = leader.waited(0, &half);
        let (still, _) = status(&half, &done(turn(&half)), Duration::from_secs(waited), now);
        assert_eq!(still, late, "it is not written again");

        let mut moved = having(vec![serving("x", "a"), loading("z", "b")]);
        moved.deployment.status = Some(late.clone());
        assert_eq!(leader.waited(20, &moved), 0, "one was made anew");
        let mut other = half.clone();
        other.deployment.metadata.generation = Some(2);
        assert_eq!(Leader::new().waited(0, &other), 0, "something else is wished");
        let mut none = having(vec![loading("x", "a"), loading("y", "b")]);
        none.deployment.status = Some(late);
        assert_eq!(
            Leader::new().waited(0, &none),
            Duration::MAX.as_secs(),
            "worse is not further"
        );
    }

    #[test]
    fn what_nobody_asks_about_any_more_is_forgotten() {
        let leader = Leader::new();
        leader.waited(0, &having(vec![loading("x", "a")]));
        let mut other = having(vec![]);
        other.deployment.metadata.name = Some("other".to_owned());
        leader.waited(3600, &other);
        assert_eq!(leader.0.0.lock().expect("nobody panicked").len(), 1);
    }
}
