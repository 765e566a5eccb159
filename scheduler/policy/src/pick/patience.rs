//! `(candidate, what is left) → how long its answer is waited for before another replica is asked`.

use std::time::Duration;

use super::{Candidate, score};

/// No answer is given up earlier: a machine that is busy with something else may well need a second more.
pub const LEAST_PATIENCE: Duration = Duration::from_secs(2);
/// So many times what is expected is waited for.
const TIMES: u32 = 8;

/// How long a candidate needs for a request, by what is known of it; `None`: nothing has run there yet.
///
/// ```
/// # use afterglow_policy::pick::{Candidate, expected};
/// # use std::time::Duration;
/// # let candidate = Candidate { id: String::new(), waiting: 0, running: 0, max_batch_size: 1, run_microseconds: 0, gflops: 0,
/// #     on_cpu: false, upload_bytes_per_second: 0, report_age_microseconds: 0, tier: 0 };
/// let two_wait = Candidate { waiting: 2, run_microseconds: 1000, ..candidate.clone() };
/// assert_eq!(expected(&two_wait, 0), Some(Duration::from_millis(3)));
/// assert_eq!(expected(&candidate, 0), None);
/// ```
pub fn expected(candidate: &Candidate, bytes: u64) -> Option<Duration> {
    if candidate.run_microseconds == 0 {
        return None;
    }
    let runs = score::half_runs(candidate)
        .saturating_mul(candidate.run_microseconds)
        .div_ceil(2);
    let upload = bytes
        .saturating_mul(1_000_000)
        .checked_div(candidate.upload_bytes_per_second)
        .unwrap_or(0);
    Some(Duration::from_micros(runs.saturating_add(upload)))
}

/// How long the candidate's answer is waited for before the request is given to another; `None`: to the deadline. That is where
/// nothing is known of its runs, where nobody else is well, and where no time would be left for another.
///
/// ```
/// # use afterglow_policy::pick::{Candidate, LEAST_PATIENCE, patience};
/// # use std::time::Duration;
/// # let candidate = Candidate { id: String::new(), waiting: 0, running: 0, max_batch_size: 1, run_microseconds: 0, gflops: 0,
/// #     on_cpu: false, upload_bytes_per_second: 0, report_age_microseconds: 0, tier: 0 };
/// let minute = Duration::from_secs(60);
/// let quick = Candidate { run_microseconds: 5_000, ..candidate.clone() };
/// assert_eq!(patience(&quick, 0, true, minute), Some(LEAST_PATIENCE));
/// let slow = Candidate { run_microseconds: 1_000_000, ..candidate };
/// assert_eq!(patience(&slow, 0, true, minute), Some(Duration::from_secs(8)));
/// assert_eq!(patience(&slow, 0, true, Duration::from_secs(8)), None, "nothing would be left for another");
/// assert_eq!(patience(&slow, 0, false, minute), None, "there is no other");
/// ```
pub fn patience(candidate: &Candidate, bytes: u64, others_well: bool, left: Duration) -> Option<Duration> {
    let expected = expected(candidate, bytes).filter(|_| others_well)?;
    let patience = expected.saturating_mul(TIMES).max(LEAST_PATIENCE);
    Some(patience).filter(|patience| *patience < left)
}
