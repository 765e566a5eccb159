//! The thread that owns a model's session.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use afterglow_policy::batch::{self, Decision, Item, Limits};
use tracing::debug_span;

use super::submit::expired;
use super::{Answer, Execute, Job, Queue, Running, State, Turn, trail};
use crate::api::{Error, Kind, Result};
use crate::statistics::Timing;

/// Starts the worker. It ends, and drops `execute` on its own thread, when the queue is closed and empty.
pub(crate) fn spawn<E: Execute>(
    queue: &Queue<E>,
    execute: E,
    turn: Arc<Turn>,
) -> std::io::Result<JoinHandle<()>> {
    let queue = queue.clone();
    thread::Builder::new()
        .name(format!("model {}", queue.0.name))
        .spawn(move || {
            let mut worker = Worker { queue, execute };
            while worker.wait_for_work() {
                // While others have the device the batch goes on filling: what runs is decided when it is ours.
                let held = turn.take();
                let batch = worker.take_batch();
                if !batch.is_empty() {
                    worker.serve(batch);
                }
                drop(held);
            }
        })
}

struct Worker<E: Execute> {
    queue: Queue<E>,
    execute: E,
}

impl<E: Execute> Worker<E> {
    /// Blocks until there is something to run; false when the queue is closed and empty.
    fn wait_for_work(&self) -> bool {
        let shared = &self.queue.0;
        let mut state = shared.lock();
        loop {
            state = match self.decide(&mut state) {
                Decision::Run(_) => return true,
                Decision::Idle if state.closed => return false,
                Decision::Idle => shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Decision::Wait(until) => {
                    let left = until.saturating_sub(shared.epoch.elapsed());
                    shared
                        .changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                Decision::Expire(_) => state,
            };
        }
    }

    /// Takes what the policy says out of the queue; nothing if it has changed its mind.
    fn take_batch(&self) -> Vec<Job<E>> {
        let mut state = self.queue.0.lock();
        loop {
            match self.decide(&mut state) {
                Decision::Run(which) => {
                    let mut jobs = take(&mut state.jobs, &which);
                    for job in &mut jobs {
                        job.trail.taken();
                    }
                    return jobs;
                }
                Decision::Expire(_) => {}
                Decision::Idle | Decision::Wait(_) => return Vec::new(),
            }
        }
    }

    /// Asks the policy; answers what has expired.
    fn decide(&self, state: &mut State<E>) -> Decision {
        let shared = &self.queue.0;
        let since = |time: Instant| time.saturating_duration_since(shared.epoch);
        let items: Vec<Item<&E::Key>> = state
            .jobs
            .iter()
            .map(|job| Item {
                arrived: since(job.arrived),
                rows: job.rows,
                key: &job.key,
                priority: job.priority,
                deadline: job.deadline.map(since),
            })
            .collect();
        let hurried;
        let limits = if state.closed {
            // Nobody will come any more.
            hurried = Limits {
                max_delay: Duration::ZERO,
                ..shared.limits.clone()
            };
            &hurried
        } else {
            &shared.limits
        };
        let decision = batch::decide(&items, limits, shared.epoch.elapsed());
        if let Decision::Expire(which) = &decision {
            for job in take(&mut state.jobs, which) {
                let _ = job
                    .reply
                    .send(Err(expired("while the request waited in the queue")));
            }
        }
        decision
    }

    /// Runs a batch and answers everyone in it.
    fn serve(&mut self, jobs: Vec<Job<E>>) {
        let ids = jobs.iter().map(|job| job.id).collect();
        if let Err(error) = self.enter(ids) {
            answer_all(jobs, &error);
            return;
        }
        let outcome = self.attempt(&jobs);
        match outcome {
            Ok(answers) => {
                for (job, answer) in jobs.into_iter().zip(answers) {
                    let _ = job.reply.send(Ok(answer));
                }
            }
            Err(error) if jobs.len() == 1 || error.kind == Kind::Cancelled => answer_all(jobs, &error),
            // One bad request must not fail its neighbours, and an output that cannot be cut is no request's fault:
            // each runs alone.
            Err(error) => {
                tracing::debug!(model = self.queue.0.name, %error, requests = jobs.len(), "a batch failed, its requests run singly");
                for job in jobs {
                    let answer = match self.enter_single(job.id) {
                        Ok(true) => self
                            .attempt(std::slice::from_ref(&job))
                            .map(|mut answers| answers.remove(0)),
                        // It left while its neighbours ran.
                        Ok(false) => continue,
                        Err(error) => Err(error),
                    };
                    let _ = job.reply.send(answer);
                }
            }
        }
        self.queue.0.lock().running = None;
        self.queue.0.activity.stir();
    }

    fn enter(&self, ids: Vec<u64>) -> Result<()> {
        let stop = self.execute.stopper()?;
        self.queue.0.lock().running = Some(Running { ids, stop });
        self.queue.0.activity.stir();
        Ok(())
    }

    fn enter_single(&self, id: u64) -> Result<bool> {
        let stop = self.execute.stopper()?;
        let mut state = self.queue.0.lock();
        let Some(running) = state.running.as_mut().filter(|running| running.ids.contains(&id)) else {
            return Ok(false);
        };
        running.stop = stop;
        Ok(true)
    }

    /// The mean follows a change within some ten runs and forgives a single slow one.
    fn ran(&self, time: Duration) {
        let mut state = self.queue.0.lock();
        state.runs += 1;
        state.run_time = Some(state.run_time.map_or(time, |mean| (mean * 7 + time) / 8));
    }

    fn attempt(&mut self, jobs: &[Job<E>]) -> Result<Vec<Answer<E::Output>>> {
        let stop = match &self.queue.0.lock().running {
            Some(running) => running.stop.clone(),
            None => return Err(Error::internal("a run that nobody entered")),
        };
        let rows: usize = jobs.iter().map(|job| job.rows).sum();
        let together = trail::batch(&self.queue.0.name, rows, jobs.iter().map(|job| &job.trail));
        let execute = &mut self.execute;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            together.within(|| execute_once(execute, jobs, &stop))
        }));
        let Executed {
            outputs,
            started,
            timing,
        } = outcome.unwrap_or_else(|panic| {
            Err(Error::internal(format!(
                "the run panicked: {}",
                words(panic.as_ref())
            )))
        })?;
        self.queue.0.statistics.executed(rows, timing);
        self.ran(timing.input + timing.infer + timing.output);
        Ok(jobs
            .iter()
            .zip(outputs)
            .map(|(job, output)| Answer {
                output,
                timing: Timing {
                    queue: started.saturating_duration_since(job.arrived),
                    ..timing
                },
            })
            .collect())
    }
}

struct Executed<O> {
    outputs: Vec<O>,
    started: Instant,
    timing: Timing,
}

fn execute_once<E: Execute>(execute: &mut E, jobs: &[Job<E>], stop: &E::Stop) -> Result<Executed<E::Output>> {
    let inputs: Vec<&E::Input> = jobs.iter().map(|job| &job.input).collect();
    let rows: Vec<usize> = jobs.iter().map(|job| job.rows).collect();
    let started = Instant::now();
    let batch = debug_span!("gather").in_scope(|| execute.gather(&inputs))?;
    let gathered = Instant::now();
    let outcome = execute.run(batch, stop)?;
    let ran = Instant::now();
    let outputs = debug_span!("scatter").in_scope(|| execute.scatter(outcome, &inputs, &rows))?;
    let timing = Timing {
        queue: Duration::ZERO,
        input: gathered - started,
        infer: ran - gathered,
        output: ran.elapsed(),
    };
    if outputs.len() != jobs.len() {
        return Err(Error::internal(format!(
            "{} answers for {} requests",
            outputs.len(),
            jobs.len()
        )));
    }
    Ok(Executed {
        outputs,
        started,
        timing,
    })
}

/// Takes the jobs at `which` out, in that order.
fn take<E: Execute>(jobs: &mut Vec<Job<E>>, which: &[usize]) -> Vec<Job<E>> {
    let mut slots: Vec<Option<Job<E>>> = std::mem::take(jobs).into_iter().map(Some).collect();
    let taken = which.iter().filter_map(|&i| slots[i].take()).collect();
    jobs.extend(slots.into_iter().flatten());
    taken
}

fn answer_all<E: Execute>(jobs: Vec<Job<E>>, error: &Error) {
    for job in jobs {
        let _ = job.reply.send(Err(error.clone()));
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
