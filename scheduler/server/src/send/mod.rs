//! Sends a request to the replica that is picked, and to another one where that is safe.
//!
//! An inference changes nothing, so a request may be sent again as long as the client has seen no byte of an answer: when the
//! connection failed, when the engine broke off, failed by itself or kept silent for far too long, when it had no room, or when it
//! did not have the model any more (the fleet's view was a moment old). Other answers are the answer. A request that could not even
//! be sent goes elsewhere as if nothing had been.

mod attempt;
mod budget;
mod chance;
mod dial;
pub(crate) mod grpc;
mod link;
mod links;
mod next;
mod outcome;
pub(crate) mod web;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug_span;

use crate::admit::Admission;
use crate::config::{Config, Limits};
use crate::fleet::{Fleet, Replica};
use crate::load::{Flight, Table};
use crate::metrics::Metrics;
use crate::namespace::{self, Place};
use crate::pick::{Picked, pick};
use crate::refusal::Refusal;
use crate::sessions::Sessions;
use crate::snapshot::{Call, Choice, snapshot};

pub(crate) use budget::{After, Budget};
pub(crate) use chance::LOOK;
pub(crate) use dial::connector;
pub(crate) use links::Links;
pub(crate) use next::{Chance, Next};
pub(crate) use outcome::{Outcome, Trip, causes};

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
    pub(crate) links: Arc<Links>,
    pub(crate) web: web::Web,
    pub(crate) limits: Limits,
    /// Whether there is anything to serve yet, where somebody says so.
    pub(crate) begun: Option<watch::Receiver<bool>>,
    /// Readiness is off: the end is near.
    pub(crate) leaving: CancellationToken,
    /// Nothing new is taken.
    pub(crate) stop: CancellationToken,
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

    /// What there is to pick from for a call, as it is now.
    fn choices(&self, call: &Call) -> Result<Vec<Choice>, Refusal> {
        let now = Instant::now();
        let engine = |address: &str| self.links.standing(address, now);
        snapshot(&self.view(), &self.table, engine, call, now)
    }

    /// Sends a call to a replica, again where [`outcome`] says so, never past its deadline.
    #[tracing::instrument(level = "debug", skip_all, fields(namespace = call.namespace, model = call.model))]
    pub(crate) async fn send<A, F, Fut>(&self, call: &Call, attempt: F) -> Result<Sent<A>, Refusal>
    where
        F: Fn(Arc<Replica>) -> Fut,
        Fut: Future<Output = Outcome<A>>,
    {
        if call.inference {
            self.budget.earn();
        }
        let mut trip = Trip::default();
        let mut last: Option<(Picked, Outcome<A>, Flight)> = None;
        loop {
            let choices = match debug_span!("snapshot").in_scope(|| self.choices(call)) {
                Ok(choices) => choices,
                // The first word decides; later ones only say that there is nobody left to ask.
                Err(refusal) if last.is_none() => return Err(refusal),
                Err(_) => Vec::new(),
            };
            let strategy = self.config.borrow().strategy;
            let picked = debug_span!("pick", choices = choices.len() as i64)
                .in_scope(|| pick(&choices, call, self.sessions.home(call), &trip.excluded, strategy));
            let picked = match trip.next(picked, call, &self.budget, Instant::now()) {
                Next::Ask { picked, paid_for } => {
                    if let Some(outcome) = paid_for {
                        self.metrics.retry(outcome);
                    }
                    picked
                }
                Next::Look => continue,
                Next::Wait(chance) => {
                    if self.another_chance(call, chance).await {
                        trip.ask_all_again();
                        continue;
                    }
                    break;
                }
                Next::Nobody => break,
                Next::OverBudget => {
                    self.metrics.retry("over-budget");
                    break;
                }
            };
            self.metrics.pick(picked.because.name());
            tracing::debug!(replica = picked.choice.replica.id, because = %picked.because, "picked");
            let flight = picked.choice.tracker.begin();
            let outcome = self.attempt(call, &picked, &choices, &trip, &attempt).await?;
            if let Outcome::Answered(answer) = outcome {
                self.sessions.remember(call, &picked.choice.replica.id);
                return Ok(sent(picked, answer, flight));
            }
            let again = trip.again(&outcome);
            last = Some((picked, outcome, flight));
            if !again {
                break;
            }
        }
        finish(call, last)
    }
}

/// What the client is told when the last attempt was not the answer.
fn finish<A>(call: &Call, last: Option<(Picked, Outcome<A>, Flight)>) -> Result<Sent<A>, Refusal> {
    let Some((picked, outcome, flight)) = last else {
        return Err(Refusal::unavailable(format!(
            "no replica of model `{}` can be used",
            call.model
        )));
    };
    let (model, replica) = (&call.model, &picked.choice.replica.id);
    match outcome {
        Outcome::Answered(answer)
        | Outcome::Refused(answer)
        | Outcome::Fault(answer)
        | Outcome::Busy(answer) => Ok(sent(picked, answer, flight)),
        Outcome::Missing => Err(Refusal::unavailable(format!(
            "model `{model}` is being moved; try again"
        ))),
        Outcome::Late => Err(Refusal::unavailable(format!(
            "replica {replica} of model `{model}` does not answer, and there is no other"
        ))),
        Outcome::Broken(error) | Outcome::Unsent(error) => Err(Refusal::unavailable(format!(
            "replica {replica} of model `{model}` cannot be reached: {error}"
        ))),
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
