//! How often the schedulers sent what they were asked once: their own counters, added up over their restarts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::world::SYSTEM;

const EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(2);
const REQUESTS: &str = "afterglow_scheduler_requests_total";
const PICKS: &str = "afterglow_scheduler_picks_total";

/// Counted by all schedulers since the load began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Attempts {
    /// Requests of clients.
    pub requests: f64,
    /// Replicas that were asked for them.
    pub attempts: f64,
}

impl Attempts {
    /// Attempts a request; 0 where nothing was counted.
    pub fn ratio(&self) -> f64 {
        if self.requests > 0.0 {
            self.attempts / self.requests
        } else {
            0.0
        }
    }
}

/// Adds up counters that begin anew whenever their process does. What a process counted between the last look and its end is
/// lost, of requests and attempts alike.
#[derive(Debug, Default)]
struct Sum {
    seen: BTreeMap<String, Attempts>,
    sum: Attempts,
}

impl Sum {
    fn add(&mut self, pod: &str, now: Attempts) {
        let before = self.seen.insert(pod.to_owned(), now);
        // What was counted before the first look at a scheduler that was there is not ours.
        let Some(before) = before else { return };
        let anew = now.requests < before.requests || now.attempts < before.attempts;
        let before = if anew { Attempts::default() } else { before };
        self.sum.requests += now.requests - before.requests;
        self.sum.attempts += now.attempts - before.attempts;
    }
}

/// Looks at the schedulers until it is told to stop.
pub(super) async fn count(client: Client, sum: Arc<Mutex<Attempts>>, stop: CancellationToken) {
    let Ok(rest) = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build() else {
        return;
    };
    let pods = Api::<Pod>::namespaced(client, SYSTEM);
    let of = ListParams::default()
        .labels("app.kubernetes.io/name=afterglow,app.kubernetes.io/component=scheduler");
    let mut addresses: BTreeMap<String, String> = BTreeMap::new();
    let mut added = Sum::default();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        // While the API server is away, they are where they were.
        if let Ok(Ok(found)) = tokio::time::timeout(PATIENCE, pods.list(&of)).await {
            addresses = found.items.into_iter().filter_map(address).collect();
        }
        for (pod, address) in &addresses {
            let Ok(text) = page(&rest, &format!("http://{address}:8002/metrics")).await else {
                continue;
            };
            let now = Attempts {
                requests: total(&text, REQUESTS),
                attempts: total(&text, PICKS),
            };
            added.add(pod, now);
        }
        *sum.lock().unwrap_or_else(PoisonError::into_inner) = added.sum;
    }
}

async fn page(rest: &reqwest::Client, url: &str) -> reqwest::Result<String> {
    rest.get(url).send().await?.text().await
}

fn address(pod: Pod) -> Option<(String, String)> {
    Some((pod.metadata.name?, pod.status?.pod_ip?))
}

/// The sum of all series of a counter on a page of metrics.
fn total(page: &str, name: &str) -> f64 {
    page.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with('{') || rest.starts_with(' '))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(requests: f64, attempts: f64) -> Attempts {
        Attempts { requests, attempts }
    }

    #[test]
    fn a_counter_is_the_sum_of_its_series_and_of_no_others() {
        let page = "# HELP afterglow_scheduler_picks_total Replicas picked\n\
                    afterglow_scheduler_picks_total{because=\"only\"} 3\n\
                    afterglow_scheduler_picks_total{because=\"least loaded\"} 39\n\
                    afterglow_scheduler_picks_total_created 1e9\n";
        assert!((total(page, PICKS) - 42.0).abs() < 1e-9);
        assert!(total(page, REQUESTS).abs() < 1e-9);
    }

    #[test]
    fn a_restart_loses_nothing_that_was_seen_and_a_first_look_adds_nothing() {
        let mut sum = Sum::default();
        sum.add("a", counted(100.0, 110.0));
        assert_eq!(sum.sum, counted(0.0, 0.0), "it was there before the load");
        sum.add("a", counted(150.0, 165.0));
        sum.add("a", counted(10.0, 11.0)); // it was killed and counts anew
        sum.add("b", counted(0.0, 0.0));
        sum.add("b", counted(40.0, 44.0));
        assert_eq!(sum.sum, counted(100.0, 110.0));
        assert!((sum.sum.ratio() - 1.1).abs() < 1e-9);
        assert!(Attempts::default().ratio().abs() < 1e-9);
    }
}
