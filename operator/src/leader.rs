//! One operator works at a time: a Lease that the leader renews and the others watch.
//!
//! A lease does not fence: a leader that was stopped and goes on may write once more. So every write is harmless when done
//! twice: names are deterministic, applies are server-side, deletions carry the uid that was seen, and of two replicas that were
//! promised the same memory the later one is placed again (`policy::place::crowded_out`).

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Resource as _};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::call::{self, call, call_opt};
use crate::metrics::Metrics;
use crate::serve::Readiness;

const NAME: &str = "afterglow-operator";
/// After how long without a renewal another may take over.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often it is renewed.
pub const RENEW: Duration = Duration::from_secs(5);
/// A leader that could not renew for this long stops, well before another starts.
pub const GIVE_UP: Duration = Duration::from_secs(10);
/// How soon a renewal that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a renewal may take: a call that hangs must leave time for another.
const ATTEMPT: Duration = Duration::from_secs(3);

/// The candidate that this process is.
pub(crate) struct Candidate {
    api: Api<Lease>,
    object: String,
    identity: String,
    deployments: Api<Deployment>,
    deployment: Option<String>,
    owner: OnceCell<Option<OwnerReference>>,
    metrics: Metrics,
    ready: Readiness,
}

impl Candidate {
    /// Of the operators in `namespace`.
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        identity: &str,
        deployment: Option<&str>,
        metrics: Metrics,
        ready: Readiness,
    ) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
            object: format!("Lease {namespace}/{NAME}"),
            identity: identity.to_owned(),
            deployments: Api::namespaced(client, namespace),
            deployment: deployment.map(str::to_owned),
            owner: OnceCell::new(),
            metrics,
            ready,
        }
    }

    /// Waits until this process leads; `false`: told to end before.
    pub(crate) async fn wait(&self, shutdown: &CancellationToken) -> bool {
        let mut seen: Option<(LeaseSpec, Instant)> = None;
        loop {
            match self.try_take(&mut seen).await {
                Ok(took) => {
                    // A leader is ready when its stores are filled, a candidate as soon as it could lead.
                    self.ready.set(!took);
                    if took {
                        return true;
                    }
                }
                // Somebody else was faster: as good as any other answer.
                Err(error) if error.code() == Some(409) => {}
                Err(error) => {
                    tracing::warn!(%error, "the leader's lease could not be read or taken; it is tried again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(2)) => {}
                () = shutdown.cancelled() => return false,
            }
        }
    }

    /// The `Deployment` of the operators: with it the lease goes, as nobody else is there to take it away.
    async fn owner(&self) -> Option<OwnerReference> {
        let name = self.deployment.as_deref()?;
        let read = || async move {
            let get = self.deployments.get(name);
            let found = call_opt(&self.metrics, "get", format!("Deployment {name}"), get).await?;
            Ok::<_, call::Error>(found.and_then(|deployment| deployment.owner_ref(&())))
        };
        match self.owner.get_or_try_init(read).await {
            Ok(owner) => owner.clone(),
            Err(error) => {
                tracing::warn!(%error, "the leader's lease will stay when the operator is removed");
                None
            }
        }
    }

    async fn try_take(&self, seen: &mut Option<(LeaseSpec, Instant)>) -> Result<bool, call::Error> {
        let get = self.api.get(NAME);
        let Some(mut lease) = call_opt(&self.metrics, "get", &self.object, get).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    owner_references: self.owner().await.map(|owner| vec![owner]),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(None)),
            };
            let params = PostParams::default();
            let create = self.api.create(&params, &lease);
            call(&self.metrics, "create", &self.object, create).await?;
            return Ok(true);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if !may_take(&spec, &self.identity, seen, Instant::now()) {
            return Ok(false);
        }
        lease.spec = Some(self.spec(Some(&spec)));
        if let Some(owner) = self.owner().await {
            lease.metadata.owner_references = Some(vec![owner]);
        }
        // With the resourceVersion that was read: of two candidates one gets a conflict.
        let params = PostParams::default();
        let replace = self.api.replace(NAME, &params, &lease);
        call(&self.metrics, "update", &self.object, replace).await?;
        Ok(true)
    }

    /// Renews until that fails for too long or somebody else holds the lease.
    pub(crate) async fn hold(&self) {
        let mut term = Term::new(Instant::now());
        while !term.is_over(Instant::now()) {
            tokio::time::sleep(term.pause()).await;
            // What counts is when it was asked for: the time in the lease is from then.
            let asked = Instant::now();
            match tokio::time::timeout(term.patience(asked), self.renew()).await {
                Ok(Ok(true)) => term.renewed(asked),
                Ok(Ok(false)) => {
                    tracing::warn!("another operator holds the lease: this one stops working");
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the leader's lease could not be renewed; it is tried again");
                    term.failed();
                }
                Err(_) => {
                    tracing::warn!("the leader's lease was not renewed in time; it is tried again");
                    term.failed();
                }
            }
        }
        tracing::warn!("the leader's lease could not be renewed for 10 s: this operator stops working");
        self.ready.set(false);
    }

    async fn renew(&self) -> Result<bool, call::Error> {
        let get = self.api.get(NAME);
        let Some(mut lease) = call_opt(&self.metrics, "get", &self.object, get).await? else {
            return Ok(false);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(false);
        }
        lease.spec = Some(self.spec(Some(&spec)));
        let params = PostParams::default();
        let replace = self.api.replace(NAME, &params, &lease);
        call(&self.metrics, "update", &self.object, replace).await?;
        Ok(true)
    }

    /// Lets go at the end, so that the next one need not wait.
    pub(crate) async fn release(&self) {
        let release = async {
            let get = self.api.get(NAME);
            let Some(mut lease) = call_opt(&self.metrics, "get", &self.object, get).await? else {
                return Ok(());
            };
            let Some(spec) = lease.spec.as_mut() else {
                return Ok(());
            };
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            spec.holder_identity = None;
            let params = PostParams::default();
            let replace = self.api.replace(NAME, &params, &lease);
            call(&self.metrics, "update", &self.object, replace)
                .await
                .map(|_| ())
        };
        if let Err(error) = release.await {
            tracing::info!(%error, "the leader's lease was not released; it ends by itself");
        }
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        spec(&self.identity, before, Timestamp::now())
    }
}

/// Whether `identity` may take a lease that says `spec`: it is free, or has not changed for [`LEASE`] since `seen`, which the caller
/// keeps from one look to the next.
pub fn may_take(
    spec: &LeaseSpec,
    identity: &str,
    seen: &mut Option<(LeaseSpec, Instant)>,
    now: Instant,
) -> bool {
    let free = spec
        .holder_identity
        .as_deref()
        .is_none_or(|holder| holder.is_empty() || holder == identity);
    // By this process' own clock: the holder's may be off.
    let unchanged_since = match seen {
        Some((before, since)) if *before == *spec => *since,
        _ => {
            *seen = Some((spec.clone(), now));
            now
        }
    };
    free || now.duration_since(unchanged_since) >= LEASE
}

/// The lease as `identity` writes it, over what it says.
pub fn spec(identity: &str, before: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
    let now = MicroTime(now);
    let mine = before.filter(|spec| spec.holder_identity.as_deref() == Some(identity));
    let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or_default();
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(LEASE.as_secs() as i32),
        acquire_time: mine.map_or_else(|| Some(now.clone()), |spec| spec.acquire_time.clone()),
        renew_time: Some(now),
        lease_transitions: Some(match (before, mine) {
            (Some(_), None) => transitions.saturating_add(1),
            _ => transitions,
        }),
        ..LeaseSpec::default()
    }
}

/// When a leader renews its lease, and when it must stop: no clock in it.
#[derive(Debug)]
struct Term {
    renewed: Instant,
    has_failed: bool,
}

impl Term {
    fn new(renewed: Instant) -> Self {
        Self {
            renewed,
            has_failed: false,
        }
    }

    fn renewed(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    fn failed(&mut self) {
        self.has_failed = true;
    }

    /// How long until the next try.
    fn pause(&self) -> Duration {
        if self.has_failed { RETRY } else { RENEW }
    }

    /// How long the next try may take.
    fn patience(&self, now: Instant) -> Duration {
        GIVE_UP
            .saturating_sub(now.saturating_duration_since(self.renewed))
            .min(ATTEMPT)
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.renewed) >= GIVE_UP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Renewals that take so long and end like this, one after the other: when the term is over, in seconds.
    fn over_after(tries: impl IntoIterator<Item = (Duration, bool)>) -> Option<u64> {
        let start = Instant::now();
        let mut now = start;
        let mut term = Term::new(start);
        for (takes, works) in tries {
            now += term.pause();
            let asked = now;
            let patience = term.patience(now);
            now += takes.min(patience);
            if works && takes < patience {
                term.renewed(asked);
            } else {
                term.failed();
            }
            if term.is_over(now) {
                return Some(now.duration_since(start).as_secs());
            }
        }
        None
    }

    #[test]
    fn one_renewal_that_fails_does_not_end_a_term() {
        let at_once = Duration::from_millis(10);
        let tries = [true, false, true, false, false, true].map(|works| (at_once, works));
        assert_eq!(over_after(tries.into_iter().cycle().take(600)), None);
        let hangs = [(Duration::from_mins(1), true), (at_once, true)];
        assert_eq!(
            over_after(hangs.into_iter().cycle().take(600)),
            None,
            "a call that hangs leaves time for another"
        );
    }

    #[test]
    fn a_term_is_over_ten_seconds_after_the_last_renewal_five_before_anybody_else_starts() {
        for takes in [Duration::ZERO, Duration::from_secs(2), Duration::from_mins(1)] {
            let over = over_after(std::iter::repeat_n((takes, false), 100)).expect("it ends");
            assert!((10..=12).contains(&over), "{over} s with calls of {takes:?}");
        }
        assert!(GIVE_UP + ATTEMPT < LEASE);
    }
}
