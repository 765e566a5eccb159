//! Requests wait here for the device.
//!
//! A queue belongs to one model version and is bounded. One thread (the worker) owns the model's session; it asks
//! [`afterglow_policy::batch`] what to run, takes its turn on the device, and answers. A request leaves the queue in
//! exactly one way: it runs, its deadline passes, its client goes away, or the queue closes.
//!
//! What runs is somebody else's: the worker gets an [`Execute`] and never sees tensors.

mod submit;
#[cfg(test)]
mod tests;
mod trail;
mod turn;
mod worker;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use afterglow_policy::batch::Limits;
use tokio::sync::{oneshot, watch};

pub(crate) use submit::Request;
use trail::Trail;
pub(crate) use turn::Turn;
pub(crate) use worker::spawn;

use crate::api::Result;
use crate::statistics::{Statistics, Timing};

/// The priority of a request that names none. Lower is served first: 1 to 99 come before it, 101 and up behind it.
pub(crate) const DEFAULT_PRIORITY: u64 = 100;

/// Runs batches of one model. Lives on the worker's thread.
pub(crate) trait Execute: Send + 'static {
    /// What one request brings.
    type Input: Send + 'static;
    /// What one request gets.
    type Output: Send + 'static;
    /// Decides which requests may share a batch.
    type Key: PartialEq + Send + 'static;
    /// Inputs of a batch.
    type Batch;
    /// Outputs of a batch.
    type Outcome;
    /// Stops a run from another thread.
    type Stop: Clone + Send + 'static;

    /// A handle that stops the next run.
    fn stopper(&self) -> Result<Self::Stop>;
    /// Stops the run that `stop` was made for.
    fn stop(stop: &Self::Stop);
    /// Merges inputs.
    fn gather(&self, inputs: &[&Self::Input]) -> Result<Self::Batch>;
    /// Runs. Called while the device is this model's.
    fn run(&mut self, batch: Self::Batch, stop: &Self::Stop) -> Result<Self::Outcome>;
    /// Takes the outcome apart, `rows` of each request.
    fn scatter(
        &self,
        outcome: Self::Outcome,
        inputs: &[&Self::Input],
        rows: &[usize],
    ) -> Result<Vec<Self::Output>>;
}

/// A queue; clones are the same.
pub(crate) struct Queue<E: Execute>(Arc<Shared<E>>);

impl<E: Execute> Clone for Queue<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// How many requests of a model are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Occupancy {
    /// Accepted, not yet running.
    pub(crate) waiting: usize,
    /// Running.
    pub(crate) running: usize,
    /// Rows of what waits.
    pub(crate) waiting_rows: usize,
    /// Time of one run, an exponentially weighted mean; `None` before the first.
    pub(crate) run_time: Option<Duration>,
    /// Runs so far.
    pub(crate) runs: u64,
}

/// Tells who watches that the state of some queue has changed.
#[derive(Debug, Clone)]
pub(crate) struct Activity(watch::Sender<()>);

impl Default for Activity {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl Activity {
    /// Something has changed.
    pub(crate) fn stir(&self) {
        self.0.send_replace(());
    }

    /// Hears of every change from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

struct Shared<E: Execute> {
    /// For messages.
    name: String,
    limits: Limits,
    capacity: usize,
    /// Times of the policy count from here.
    epoch: Instant,
    state: Mutex<State<E>>,
    changed: Condvar,
    statistics: Arc<Statistics>,
    activity: Activity,
}

struct State<E: Execute> {
    jobs: Vec<Job<E>>,
    running: Option<Running<E::Stop>>,
    next_id: u64,
    closed: bool,
    run_time: Option<Duration>,
    runs: u64,
}

struct Job<E: Execute> {
    id: u64,
    input: E::Input,
    rows: usize,
    key: E::Key,
    priority: u64,
    arrived: Instant,
    deadline: Option<Instant>,
    reply: oneshot::Sender<Result<Answer<E::Output>>>,
    trail: Trail,
}

/// An answer and where its time went.
pub(crate) struct Answer<O> {
    pub(crate) output: O,
    pub(crate) timing: Timing,
}

struct Running<S> {
    /// Requests that still wait for the run.
    ids: Vec<u64>,
    stop: S,
}

impl<E: Execute> Queue<E> {
    pub(crate) fn new(
        name: String,
        limits: Limits,
        capacity: usize,
        statistics: Arc<Statistics>,
        activity: Activity,
    ) -> Self {
        Self(Arc::new(Shared {
            name,
            limits,
            capacity,
            epoch: Instant::now(),
            state: Mutex::new(State {
                jobs: Vec::new(),
                running: None,
                next_id: 0,
                closed: false,
                run_time: None,
                runs: 0,
            }),
            changed: Condvar::new(),
            statistics,
            activity,
        }))
    }

    /// Takes nothing new; what is queued still runs, without waiting for company. The worker ends when it has.
    pub(crate) fn close(&self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }

    pub(crate) fn occupancy(&self) -> Occupancy {
        let state = self.0.lock();
        Occupancy {
            waiting: state.jobs.len(),
            running: state.running.as_ref().map_or(0, |running| running.ids.len()),
            waiting_rows: state.jobs.iter().map(|job| job.rows).sum(),
            run_time: state.run_time,
            runs: state.runs,
        }
    }
}

impl<E: Execute> Shared<E> {
    /// Wakes the worker and tells who watches.
    fn stir(&self) {
        self.changed.notify_all();
        self.activity.stir();
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
