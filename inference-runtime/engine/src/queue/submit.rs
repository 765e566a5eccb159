//! A request's side of the queue.

use std::time::Instant;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Answer, DEFAULT_PRIORITY, Execute, Job, Queue, Trail};
use crate::api::{Error, Kind, Result};

/// A request that fits the model.
pub(crate) struct Request<E: Execute> {
    pub(crate) input: E::Input,
    /// Rows it adds to a batch, at least 1.
    pub(crate) rows: usize,
    pub(crate) key: E::Key,
    /// 0 = the default, 1 = highest.
    pub(crate) priority: u64,
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancel: CancellationToken,
}

impl<E: Execute> Queue<E> {
    /// Waits in the queue and for the answer. When this future is dropped, when the client goes away or when the
    /// deadline passes, the request leaves the queue; if it runs already and nobody else waits for that run, the run
    /// is stopped.
    pub(crate) async fn submit(&self, request: Request<E>) -> Result<Answer<E::Output>> {
        let Request {
            input,
            rows,
            key,
            priority,
            deadline,
            cancel,
        } = request;
        if cancel.is_cancelled() {
            return Err(cancelled());
        }
        let arrived = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= arrived) {
            return Err(expired("before the request was queued"));
        }
        let (reply, answer) = oneshot::channel();
        let trail = Trail::begin();
        let id = {
            let mut state = self.0.lock();
            if state.closed {
                return Err(Error::unavailable(format!(
                    "model `{}` is being unloaded",
                    self.0.name
                )));
            }
            if state.jobs.len() >= self.0.capacity {
                return Err(Error::unavailable(format!(
                    "the queue of model `{}` is full: {} requests wait (batching.maxQueue)",
                    self.0.name,
                    state.jobs.len()
                )));
            }
            let id = state.next_id;
            state.next_id += 1;
            state.jobs.push(Job {
                id,
                input,
                rows: rows.max(1),
                key,
                priority: if priority == 0 { DEFAULT_PRIORITY } else { priority },
                arrived,
                deadline,
                reply,
                trail,
            });
            id
        };
        self.0.stir();
        let _leave = Leave { queue: self, id };
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_| {
                Err(Error::internal(format!("the worker of model `{}` is gone", self.0.name)))
            }),
            () = cancel.cancelled() => Err(cancelled()),
            () = passed(deadline) => Err(expired("while the request waited for its answer")),
        }
    }

    fn leave(&self, id: u64) {
        let mut state = self.0.lock();
        if let Some(at) = state.jobs.iter().position(|job| job.id == id) {
            state.jobs.remove(at);
            drop(state);
            self.0.stir();
        } else if let Some(running) = &mut state.running
            && let Some(at) = running.ids.iter().position(|&running| running == id)
        {
            running.ids.swap_remove(at);
            if running.ids.is_empty() {
                E::stop(&running.stop);
            }
        }
    }
}

/// Takes the request out of the queue, however its future ends.
struct Leave<'a, E: Execute> {
    queue: &'a Queue<E>,
    id: u64,
}

impl<E: Execute> Drop for Leave<'_, E> {
    fn drop(&mut self) {
        self.queue.leave(self.id);
    }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn cancelled() -> Error {
    Error::new(Kind::Cancelled, "the client went away")
}

pub(super) fn expired(when: &str) -> Error {
    Error::new(Kind::DeadlineExceeded, format!("the deadline passed {when}"))
}
