//! One operator works at a time: a Lease that the leader renews and the others watch.
//!
//! A lease does not fence: a leader that was stopped and goes on may write once more. So every write is harmless when done
//! twice: names are deterministic, applies are server-side, deletions carry the uid that was seen, and of two replicas that were
//! promised the same memory the later one is placed again (`policy::place::crowded_out`).

mod lease;

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, Resource as _};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::call::{self, call, call_opt};
use crate::metrics::Metrics;
use crate::serve::Readiness;

pub use lease::{Term, renew, take};

const NAME: &str = "afterglow-operator";

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
        let found = call_opt(&self.metrics, "get", &self.object, get).await?;
        let known = found.as_ref().map(said);
        let Some(spec) = take(
            known.as_ref(),
            &self.identity,
            seen,
            Instant::now(),
            Timestamp::now(),
        ) else {
            return Ok(false);
        };
        let is_new = found.is_none();
        let mut lease = found.unwrap_or_default();
        lease.spec = Some(spec);
        if let Some(owner) = self.owner().await {
            lease.metadata.owner_references = Some(vec![owner]);
        }
        let params = PostParams::default();
        if is_new {
            lease.metadata.name = Some(NAME.to_owned());
            let create = self.api.create(&params, &lease);
            call(&self.metrics, "create", &self.object, create).await?;
        } else {
            // With the resourceVersion that was read: of two candidates one gets a conflict.
            let replace = self.api.replace(NAME, &params, &lease);
            call(&self.metrics, "update", &self.object, replace).await?;
        }
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
        let Some(spec) = renew(&said(&lease), &self.identity, Timestamp::now()) else {
            return Ok(false);
        };
        lease.spec = Some(spec);
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
}

/// What a lease says.
fn said(lease: &Lease) -> LeaseSpec {
    lease.spec.clone().unwrap_or_default()
}
