//! The fleet as Kubernetes tells it, kept up to date; while the API server is away the last view stays.

use std::fmt::Debug;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use afterglow_crds::{GpuNode, ModelDeployment, ModelReplica};
use futures::StreamExt as _;
use kube::runtime::reflector::{self, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::kept::Kept;
use super::{Fleet, from_objects};

/// A watch whose server has gone away without a word is noticed after this and a few seconds.
const WATCH_SECONDS: u32 = 25;

/// Changes come in bursts; one view for all of a burst.
const SETTLE: Duration = Duration::from_millis(20);

/// The API server answers the first lists within this, or the view of the last time has to do.
const PATIENCE: Duration = Duration::from_secs(5);

/// The view is not written more often.
const KEEP_EVERY: Duration = Duration::from_secs(2);

/// Pauses between tries to watch. Short: three watches a scheduler burden nobody, and as long as the view is old, requests go to
/// replicas that have left and not to those that have come.
#[derive(Debug, Default)]
struct Pauses {
    last: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.last = (2 * self.last).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        // Spread by up to a quarter: all schedulers lose the API server at the same moment.
        Some(self.last.mul_f64(rand::random_range(0.75..=1.0)))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.last = Duration::ZERO;
    }
}

/// Watches for ever; ends only if nobody listens any more. The first view that is told is complete: a scheduler that knows half
/// of the fleet would answer 404. Where `keep` names a file the view is kept there, and told from there if the API server does not
/// answer at the start.
pub async fn watch(
    client: Client,
    cluster: String,
    keep: Option<PathBuf>,
    sender: watch::Sender<Arc<Fleet>>,
) -> anyhow::Result<()> {
    let changed = Arc::new(Notify::new());
    let replicas: Store<ModelReplica> = follow(Api::all(client.clone()), &changed);
    let nodes: Store<GpuNode> = follow(Api::all(client.clone()), &changed);
    let deployments: Store<ModelDeployment> = follow(Api::all(client), &changed);
    let kept = keep.map(Kept::at);
    let mut known = pin!(async {
        replicas.wait_until_ready().await?;
        nodes.wait_until_ready().await?;
        deployments.wait_until_ready().await
    });
    match (&kept, timeout(PATIENCE, &mut known).await) {
        (_, Ok(ready)) => ready?,
        (None, Err(_)) => known.await?,
        (Some(kept), Err(_)) => {
            match kept.read(&cluster).await {
                Ok(fleet) => {
                    tracing::warn!(
                        "the API server does not answer; the view of the last time is served from"
                    );
                    sender.send_replace(Arc::new(fleet));
                }
                Err(error) => tracing::warn!("the API server does not answer; {error:#}"),
            }
            known.await?;
        }
    }
    let mut to_keep = false;
    let mut may_keep = Instant::now();
    loop {
        let (replicas, nodes, deployments) = (replicas.state(), nodes.state(), deployments.state());
        let new = Arc::new(from_objects(&cluster, &replicas, &nodes, &deployments));
        to_keep |= sender.send_if_modified(|old| {
            let differs = *old != new;
            if differs {
                tracing::info!(
                    replicas = new.replicas().count(),
                    nodes = new.load.len(),
                    "fleet changed"
                );
                *old = new;
            }
            differs
        });
        if let Some(kept) = kept.as_ref().filter(|_| to_keep && may_keep <= Instant::now()) {
            if let Err(error) = kept.write(&replicas, &nodes, &deployments).await {
                tracing::warn!("{error:#}");
            }
            to_keep = false;
            may_keep = Instant::now() + KEEP_EVERY;
        }
        tokio::select! {
            () = sender.closed() => return Ok(()),
            () = changed.notified() => {}
            () = sleep_until(may_keep), if to_keep && kept.is_some() => {}
        }
        sleep(SETTLE).await;
    }
}

/// A store that follows all objects of a kind.
fn follow<K>(api: Api<K>, changed: &Arc<Notify>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let changed = changed.clone();
    let events = watcher(api, watcher::Config::default().timeout(WATCH_SECONDS)).backoff(Pauses::default());
    tokio::spawn(async move {
        let mut events = pin!(reflector::reflector(writer, events));
        let mut away = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => {
                    if std::mem::take(&mut away) {
                        tracing::info!(kind = %K::kind(&()), "the API server answers again");
                    }
                    changed.notify_one();
                }
                Err(error) => {
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(kind = %K::kind(&()), %error, "watching failed; the last view stays");
                    }
                }
            }
        }
    });
    store
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_to_watch_are_never_more_than_two_seconds_apart_and_begin_anew_when_one_succeeds() {
        let mut pauses = Pauses::default();
        assert!(pauses.by_ref().take(50).all(|pause| pause <= LONGEST_PAUSE));
        assert!(pauses.next().is_some_and(|pause| pause > LONGEST_PAUSE / 2));
        pauses.reset();
        assert!(pauses.next().is_some_and(|pause| pause <= FIRST_PAUSE));
    }
}
