//! How many replicas answer, asked of the engines themselves: what the API says of a node that has just died is out of date.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use afterglow_crds::condition::{READY, is_true};
use afterglow_crds::{ModelReplica, labels};
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(1);

/// One look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Since the load began.
    pub at: Duration,
    /// Replicas that are Ready, as the API last said.
    pub listed: usize,
    /// Of these, those whose engines say so too.
    pub answering: usize,
}

/// What is looked at.
pub(super) struct Looked {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) deployment: String,
    pub(super) began: Instant,
}

/// From a strike to when so many replicas answer again, for good as far as the time until `until` goes. Zero if they never
/// were fewer; `None` if at the end they still are. One look between two that found all is an answer that was slow.
pub fn full_capacity(
    samples: &[Sample],
    wanted: usize,
    strike: Duration,
    until: Duration,
) -> Option<Duration> {
    let window = || {
        let all = samples.iter().enumerate();
        all.filter(|(_, sample)| (strike..until).contains(&sample.at))
    };
    let lacks = |place: usize| {
        let sample = samples.get(place);
        sample.is_some_and(|sample| sample.answering < wanted)
    };
    let slow = |place: usize| {
        let before = place.checked_sub(1).is_some_and(lacks);
        !before && place + 1 < samples.len() && !lacks(place + 1)
    };
    let Some(last_lack) = window()
        .filter(|(place, _)| lacks(*place) && !slow(*place))
        .map(|(_, sample)| sample.at)
        .max()
    else {
        return Some(Duration::ZERO);
    };
    window()
        .find(|(_, sample)| sample.at > last_lack)
        .map(|(_, sample)| sample.at.saturating_sub(strike))
}

/// Looks until it is told to stop.
pub(super) async fn look(what: Looked, samples: Arc<Mutex<Vec<Sample>>>, stop: CancellationToken) {
    let Ok(rest) = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build() else {
        return;
    };
    let Looked {
        client,
        namespace,
        deployment,
        began,
    } = what;
    let replicas = Api::<ModelReplica>::namespaced(client, &namespace);
    let of = ListParams::default().labels(&format!("{}={deployment}", labels::DEPLOYMENT));
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let at = began.elapsed();
        // While the API server is away, they are where they were.
        if let Ok(Ok(found)) = tokio::time::timeout(PATIENCE, replicas.list(&of)).await {
            known = found.items.into_iter().filter_map(address).collect();
        }
        let mut asked = JoinSet::new();
        for url in known.values() {
            let question = rest.get(url).send();
            asked.spawn(async move { question.await.is_ok_and(|answer| answer.status().is_success()) });
        }
        let answering = asked.join_all().await.into_iter().filter(|yes| *yes).count();
        samples
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Sample {
                at,
                listed: known.len(),
                answering,
            });
    }
}

/// A Ready replica, and where its engine says whether it is.
fn address(replica: ModelReplica) -> Option<(String, String)> {
    let status = replica.status?;
    let endpoint = status.endpoint.filter(|_| is_true(&status.conditions, READY))?;
    let url = format!("http://{}/v2/models/{}/ready", endpoint.http, endpoint.model);
    Some((replica.metadata.name?, url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(answering: &[usize]) -> Vec<Sample> {
        answering
            .iter()
            .enumerate()
            .map(|(second, &answering)| Sample {
                at: Duration::from_secs(second as u64),
                listed: 2,
                answering,
            })
            .collect()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn capacity_is_full_when_it_stays_so() {
        // It comes back at 4 s, is lost again at 6 s, and comes back for good at 8 s.
        let seen = samples(&[2, 2, 1, 1, 2, 2, 1, 1, 2, 2]);
        assert_eq!(full_capacity(&seen, 2, seconds(2), seconds(10)), Some(seconds(6)));
        assert_eq!(full_capacity(&seen, 2, seconds(2), seconds(6)), Some(seconds(2)));
    }

    #[test]
    fn one_slow_answer_is_no_lack_and_the_last_look_of_all_is_taken_at_its_word() {
        let seen = samples(&[2, 2, 1, 1, 2, 2, 1, 2, 2, 1]);
        assert_eq!(full_capacity(&seen, 2, seconds(2), seconds(9)), Some(seconds(2)));
        assert_eq!(
            full_capacity(&seen, 2, seconds(5), seconds(9)),
            Some(Duration::ZERO)
        );
        assert_eq!(full_capacity(&seen, 2, seconds(5), seconds(10)), None);
    }

    #[test]
    fn who_never_lacked_was_never_away_and_who_lacks_at_the_end_has_not_come_back() {
        let seen = samples(&[2, 2, 1, 1, 2, 2, 1, 1]);
        assert_eq!(
            full_capacity(&seen, 2, seconds(4), seconds(6)),
            Some(Duration::ZERO)
        );
        assert_eq!(full_capacity(&seen, 2, seconds(4), seconds(10)), None);
    }
}
