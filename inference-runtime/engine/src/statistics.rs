//! What happened to a model's requests: the one source of both the statistics extension and the metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::api::{BatchStatistics, Duration as Tally, Error, InferStatistics, Kind};

/// Where the time of one execution went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Timing {
    /// From arrival until the device was theirs.
    pub(crate) queue: Duration,
    /// Gathering inputs.
    pub(crate) input: Duration,
    /// Running.
    pub(crate) infer: Duration,
    /// Scattering outputs.
    pub(crate) output: Duration,
}

/// Why a request failed, in Triton's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The scheduler did not take it or gave it up: queue full, deadline passed.
    Rejected,
    /// The client went away.
    Canceled,
    /// The run failed.
    Backend,
    /// The request was wrong, or the model was not there.
    Other,
}

impl Failure {
    pub(crate) const ALL: [Self; 4] = [Self::Rejected, Self::Canceled, Self::Backend, Self::Other];

    /// The label's value.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rejected => "REJECTED",
            Self::Canceled => "CANCELED",
            Self::Backend => "BACKEND",
            Self::Other => "OTHER",
        }
    }

    fn of(error: &Error) -> Self {
        match error.kind {
            Kind::DeadlineExceeded | Kind::Unavailable => Self::Rejected,
            Kind::Cancelled => Self::Canceled,
            Kind::Internal => Self::Backend,
            _ => Self::Other,
        }
    }
}

/// A model version's counters. Every request ends in exactly one of [`Self::succeeded`] and [`Self::failed`].
#[derive(Debug, Default)]
pub(crate) struct Statistics(Mutex<Snapshot>);

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Milliseconds since the epoch; 0 before the first.
    pub(crate) last_inference: u64,
    pub(crate) inference_count: u64,
    pub(crate) execution_count: u64,
    pub(crate) inference: InferStatistics,
    pub(crate) batches: BTreeMap<usize, BatchStatistics>,
    pub(crate) failures: [u64; Failure::ALL.len()],
}

impl Snapshot {
    pub(crate) fn failed(&self, failure: Failure) -> u64 {
        self.failures[failure as usize]
    }
}

impl Statistics {
    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A request of `rows` rows was answered `total` after it came.
    pub(crate) fn succeeded(&self, rows: usize, total: Duration, timing: Timing) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        self.change(|s| {
            s.last_inference = now;
            s.inference_count += rows as u64;
            add(&mut s.inference.success, total);
            add(&mut s.inference.queue, timing.queue);
            add(&mut s.inference.compute_input, timing.input);
            add(&mut s.inference.compute_infer, timing.infer);
            add(&mut s.inference.compute_output, timing.output);
        });
    }

    /// A request was refused or failed `total` after it came.
    pub(crate) fn failed(&self, error: &Error, total: Duration) {
        self.change(|s| {
            s.failures[Failure::of(error) as usize] += 1;
            add(&mut s.inference.fail, total);
        });
    }

    /// A batch of `rows` rows was run.
    pub(crate) fn executed(&self, rows: usize, timing: Timing) {
        self.change(|s| {
            s.execution_count += 1;
            let batch = s.batches.entry(rows).or_insert_with(|| BatchStatistics {
                batch_size: rows as u64,
                ..Default::default()
            });
            add(&mut batch.compute_input, timing.input);
            add(&mut batch.compute_infer, timing.infer);
            add(&mut batch.compute_output, timing.output);
        });
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn add(tally: &mut Tally, time: Duration) {
    tally.count += 1;
    tally.nanoseconds += time.as_nanos() as u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// Triton's own table (protocol documentation, metrics): requests, inferences, executions.
    #[test]
    fn a_batch_counts_its_rows_as_inferences_and_itself_as_one_execution() {
        let run = |requests: &[usize], executions: &[usize]| {
            let statistics = Statistics::default();
            for &rows in executions {
                statistics.executed(rows, Timing::default());
            }
            for &rows in requests {
                statistics.succeeded(rows, us(1), Timing::default());
            }
            let s = statistics.snapshot();
            (s.inference.success.count, s.inference_count, s.execution_count)
        };
        assert_eq!(run(&[1], &[1]), (1, 1, 1));
        assert_eq!(run(&[8], &[8]), (1, 8, 1));
        assert_eq!(run(&[1, 8], &[1, 8]), (2, 9, 2));
        assert_eq!(run(&[1, 1], &[2]), (2, 2, 1));
        assert_eq!(run(&[1, 8], &[9]), (2, 9, 1));
    }

    #[test]
    fn failures_are_sorted_by_reason_and_never_count_as_inferences() {
        let statistics = Statistics::default();
        for (kind, reason) in [
            (Kind::DeadlineExceeded, Failure::Rejected),
            (Kind::Unavailable, Failure::Rejected),
            (Kind::Cancelled, Failure::Canceled),
            (Kind::Internal, Failure::Backend),
            (Kind::Invalid, Failure::Other),
        ] {
            let before = statistics.snapshot().failed(reason);
            statistics.failed(&Error::new(kind, ""), us(3));
            assert_eq!(statistics.snapshot().failed(reason), before + 1, "{kind:?}");
        }
        let s = statistics.snapshot();
        assert_eq!(
            (s.inference.fail.count, s.inference.fail.nanoseconds),
            (5, 15_000)
        );
        assert_eq!(
            (s.inference_count, s.inference.success.count, s.last_inference),
            (0, 0, 0)
        );
    }
}
