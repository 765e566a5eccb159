//! Objects of ours whose fields somebody else writes too: put back each time, ever more slowly, and said aloud.
//!
//! Two who never tire would otherwise write as fast as the API server lets them. Who changes an object once or twice by hand gets an
//! event; who does it again and again gets the condition, until they leave it alone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use afterglow_crds::labels::OPERATOR_MANAGER;
use kube::ResourceExt as _;
use kube::api::DynamicObject;

use super::gather::Name;

/// So many times it is put back at once.
const PATIENCE: u32 = 3;
const LONGEST: Duration = Duration::from_mins(1);
/// Left alone for so long, it is not contested any more.
const MEMORY: Duration = Duration::from_mins(5);

/// How it stands about one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contest {
    /// Hash of what was written.
    applied: String,
    /// Who changed that last: a field manager.
    pub(crate) by: String,
    /// How often it was put back.
    times: u32,
    /// When it was put back last.
    last: Instant,
}

impl Contest {
    /// Whether what was written is this.
    pub(crate) fn is_about(&self, hash: &str) -> bool {
        self.applied == hash
    }

    /// Whether it is a matter for people.
    pub(crate) fn is_on(&self) -> bool {
        self.times >= PATIENCE
    }

    /// When it may be put back again.
    pub(crate) fn due(&self) -> Instant {
        let pause = match self.times.checked_sub(PATIENCE) {
            None => Duration::ZERO,
            Some(more) => Duration::from_secs(1 << more.min(16)).min(LONGEST),
        };
        self.last + pause
    }

    /// When it is forgotten, if it is left alone.
    pub(crate) fn end(&self) -> Instant {
        self.last + MEMORY
    }
}

/// What was written, as long as that matters.
#[derive(Debug, Default)]
pub(crate) struct Contests(Mutex<HashMap<Name, Contest>>);

impl Contests {
    /// An object that was there already was written; `by`: because of somebody who had changed it.
    pub(crate) fn wrote(&self, name: Name, applied: &str, by: Option<String>, now: Instant) -> Contest {
        let mut contests = self.remembered(now);
        let before = contests.get(&name).map_or(0, |contest| contest.times);
        let contest = Contest {
            applied: applied.to_owned(),
            times: if by.is_some() { before.saturating_add(1) } else { 0 },
            by: by.unwrap_or_default(),
            last: now,
        };
        contests.insert(name, contest.clone());
        contest
    }

    /// How it stands.
    pub(crate) fn at(&self, now: Instant) -> HashMap<Name, Contest> {
        self.remembered(now).clone()
    }

    fn remembered(&self, now: Instant) -> MutexGuard<'_, HashMap<Name, Contest>> {
        let mut contests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        contests.retain(|_, contest| now < contest.end());
        contests
    }
}

/// Who wrote `live` last, besides us and those who only say in its status how it is.
pub(crate) fn last_writer(live: &DynamicObject) -> String {
    live.managed_fields()
        .iter()
        .filter(|entry| entry.subresource.as_deref().unwrap_or_default().is_empty())
        .filter_map(|entry| Some((entry.time.as_ref().map(|time| time.0), entry.manager.as_deref()?)))
        // Kubernetes numbers a Deployment's revisions after every change of it, whoever made that.
        .filter(|(_, manager)| ![OPERATOR_MANAGER, "kube-controller-manager"].contains(manager))
        .max_by_key(|(time, _)| *time)
        .map_or_else(|| "somebody".to_owned(), |(_, manager)| manager.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::build::Kind;

    #[test]
    fn who_never_tires_is_answered_ever_more_slowly_and_forgotten_when_it_is_over() {
        let (contests, start) = (Contests::default(), Instant::now());
        let name: Name = (Kind::Service, Some("n".to_owned()), "s".to_owned());
        let mut now = start;
        let mut pauses = Vec::new();
        let mut on = Vec::new();
        for _ in 0..12 {
            let contest = contests.wrote(name.clone(), "h", Some("argocd".to_owned()), now);
            pauses.push(contest.due().duration_since(now).as_secs());
            on.push(contest.is_on());
            now = contest.due();
        }
        assert_eq!(pauses, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(on[..4], [false, false, true, true]);
        let seen = contests.at(now);
        assert!(seen[&name].is_about("h") && !seen[&name].is_about("another wish"));
        let end = seen[&name].end();
        let nearly = seen[&name].last + Duration::from_secs(299);
        assert_eq!(contests.at(nearly).len(), 1);
        assert!(contests.at(end).is_empty(), "five quiet minutes");

        contests.wrote(name.clone(), "h", Some("argocd".to_owned()), now);
        let new = contests.wrote(name, "another wish", None, now);
        assert!(
            !new.is_on() && new.due() == now,
            "a wish of its own is no quarrel"
        );
    }

    #[test]
    fn who_wrote_last_is_named() {
        let mut object = DynamicObject::new("s", &Kind::Service.resource());
        assert_eq!(
            last_writer(&object),
            "somebody",
            "an API server that says nothing"
        );
        let entry = |manager: &str, minute: u32, subresource: &str| {
            serde_json::from_value(json!({
                "manager": manager, "operation": "Update", "subresource": subresource,
                "time": format!("2026-01-01T00:{minute:02}:00Z"),
            }))
            .expect("an entry")
        };
        object.metadata.managed_fields = Some(vec![
            entry("kubectl-edit", 1, ""),
            entry("argocd", 2, ""),
            entry("who-tells-how-it-is", 3, "status"),
            entry("kube-controller-manager", 3, ""),
            entry(OPERATOR_MANAGER, 4, ""),
        ]);
        assert_eq!(last_writer(&object), "argocd");
    }
}
