//! Sends a request to the replica that is picked, and to another one where that is safe.
//!
//! An inference changes nothing, so a request may be sent again as long as the client has seen no byte of an answer: when
//! the connection failed, when the engine had no room, or when it did not have the model any more (the fleet's view was a
//! moment old). Other answers are the answer.

mod budget;
pub(crate) mod grpc;
pub(crate) mod web;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admit::Admission;
use crate::config::{Config, Limits};
use crate::fleet::{Fleet, Replica};
use crate::load::{Flight, Table};
use crate::metrics::Metrics;
use crate::namespace::{self, Place};
use crate::pick::{Picked, pick};
use crate::refusal::Refusal;
use crate::sessions::Sessions;
use crate::snapshot::{Call, snapshot};

pub(crate) use budget::Budget;

/// Times that a request may be sent again.
pub(crate) const RETRIES: usize = 2;

/// Everything that doors share.
#[derive(Debug)]
pub(crate) struct Scheduler {
    pub(crate) cluster: String,
    pub(crate) own_namespace: String,
    pub(crate) config: watch::Receiver<Config>,
    pub(crate) fleet: watch::Receiver<Arc<Fleet>>,
    pub(crate) table: Arc<Table>,
    pub(crate) sessions: Sessions,
    pub(crate) admission: Admission,
    pub(crate) budget: Budget,
    pub(crate) metrics: Metrics,
    pub(crate) channels: grpc::Channels,
    pub(crate) web: web::Web,
    pub(crate) limits: Limits,
    /// Whether there is anything to serve yet, where somebody says so.
    pub(crate) begun: Option<watch::Receiver<bool>>,
    /// Readiness is off: the end is near.
    pub(crate) leaving: CancellationToken,
}

/// What an attempt came to. `A` is an answer in the door's own words, an error's included.
#[derive(Debug)]
pub(crate) enum Outcome<A> {
    /// The answer.
    Answered(A),
    /// The engine has no room, or is on its way out.
    Busy(A),
    /// The engine does not have the model (any more).
    Missing,
    /// No answer: the connection could not be made, or broke.
    Broken(String),
}

/// An answer, and where it came from.
#[derive(Debug)]
pub(crate) struct Sent<A> {
    pub(crate) answer: A,
    pub(crate) replica: Arc<Replica>,
    pub(crate) because: String,
    /// Keeps the request counted; to be held until the last byte went out.
    pub(crate) flight: Flight,
}

impl Scheduler {
    /// The namespace that a request is for.
    pub(crate) fn namespace(&self, header: Option<&str>, host: Option<&str>) -> String {
        let config = self.config.borrow();
        let place = Place {
            cluster: &self.cluster,
            own: &self.own_namespace,
            default: &config.default_namespace,
        };
        namespace::of(header, host, place).to_owned()
    }

    /// The fleet as it is now.
    pub(crate) fn view(&self) -> Arc<Fleet> {
        self.fleet.borrow().clone()
    }

    /// Sends a call to a replica, at most [`RETRIES`] times again, never past its deadline.
    #[tracing::instrument(level = "debug", skip_all, fields(namespace = call.namespace, model = call.model))]
    pub(crate) async fn send<A, F, Fut>(&self, call: &Call, attempt: F) -> Result<Sent<A>, Refusal>
    where
        F: Fn(Arc<Replica>) -> Fut,
        Fut: Future<Output = Outcome<A>>,
    {
        self.budget.earn();
        let mut excluded: Vec<String> = Vec::new();
        let mut last: Option<(Picked, Outcome<A>, Flight)> = None;
        for round in 0..=RETRIES {
            let choices = snapshot(&self.view(), &self.table, call, Instant::now());
            let strategy = self.config.borrow().strategy;
            let picked = match choices {
                Ok(choices) => pick(&choices, call, self.sessions.home(call), &excluded, strategy),
                // The first word decides; later ones only say that there is nobody left to ask.
                Err(refusal) if last.is_none() => return Err(refusal),
                Err(_) => None,
            };
            let Some(picked) = picked else { break };
            if round > 0 && !self.budget.spend() {
                self.metrics.retry("over-budget");
                break;
            }
            if let Some((_, outcome, _)) = &last {
                self.metrics.retry(outcome.name());
            }
            let replica = picked.choice.replica.clone();
            self.metrics.pick(picked.because.name());
            tracing::debug!(replica = replica.id, because = %picked.because, round, "picked");
            let flight = picked.choice.tracker.begin();
            let deadline = tokio::time::Instant::from_std(call.deadline);
            let Ok(outcome) = tokio::time::timeout_at(deadline, attempt(replica.clone())).await else {
                return Err(Refusal::late(call.deadline - call.arrival));
            };
            self.observe(&picked.choice, &outcome);
            if let Outcome::Answered(answer) = outcome {
                self.sessions.remember(call, &replica.id);
                return Ok(sent(picked, answer, flight));
            }
            excluded.push(replica.id.clone());
            last = Some((picked, outcome, flight));
        }
        let Some((picked, outcome, flight)) = last else {
            return Err(Refusal::unavailable(format!(
                "no replica of model `{}` can be used",
                call.model
            )));
        };
        match outcome {
            Outcome::Answered(answer) | Outcome::Busy(answer) => Ok(sent(picked, answer, flight)),
            Outcome::Missing => Err(Refusal::unavailable(format!(
                "model `{}` is being moved; try again",
                call.model
            ))),
            Outcome::Broken(error) => Err(Refusal::unavailable(format!(
                "replica {} of model `{}` cannot be reached: {error}",
                picked.choice.replica.id, call.model
            ))),
        }
    }
}

fn sent<A>(picked: Picked, answer: A, flight: Flight) -> Sent<A> {
    Sent {
        answer,
        because: picked.because.to_string(),
        replica: picked.choice.replica,
        flight,
    }
}

impl<A> Outcome<A> {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::Busy(_) => "busy",
            Self::Missing => "missing",
            Self::Broken(_) => "broken",
        }
    }
}

/// An error with its causes: "transport error" alone helps nobody.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}
