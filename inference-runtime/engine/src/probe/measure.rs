//! How long runs take, and what a process holds.

use std::time::{Duration, Instant};

use super::Latency;
use crate::api::{NamedTensor, Result};
use crate::session::Session;

/// The median of some runs: at least 3, then until `budget` is spent or 30 are done. One run before them is not counted:
/// it compiles and plans.
pub(super) fn latency(
    session: &mut Session,
    batch: usize,
    inputs: &[NamedTensor],
    budget: Duration,
) -> Result<Latency> {
    session.run_once(inputs)?;
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < 3 || (times.len() < 30 && start.elapsed() < budget) {
        let before = Instant::now();
        session.run_once(inputs)?;
        times.push(before.elapsed());
    }
    times.sort();
    Ok(Latency {
        batch,
        p50_milliseconds: times[times.len() / 2].as_secs_f64() * 1e3,
        runs: times.len(),
    })
}

/// Resident memory of this process in bytes; 0 where the system does not tell.
pub(crate) fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|statm| statm.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
