//! Which replica answers a request: `(replicas, request, strategy, randomness) → a replica and because of what`.
//!
//! [`pick`] is the whole of it. Only those of the best tier are picked from ([`tiers`](crate::breaker::tiers)); of these, requests
//! of a session are kept together first, whatever the strategy (`sticky.rs`), and all others go where the strategy says
//! (`score.rs`). Random numbers are an argument, so the same call gives the same answer. [`patience`] says how long the answer is
//! waited for before another replica is asked.

mod decide;
mod patience;
#[cfg(test)]
mod properties;
mod score;
mod sticky;
#[cfg(test)]
mod tables;

use std::fmt;

pub use decide::pick;
pub use patience::{LEAST_PATIENCE, expected, patience};

/// A replica that could answer, as the scheduler sees it now.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// `NAMESPACE/NAME` of the ModelReplica.
    pub id: String,
    /// Requests that wait on it: reported, plus those that this scheduler has sent since the report.
    pub waiting: u32,
    /// Requests that run on it.
    pub running: u32,
    /// Rows that a run may hold; 1 = requests run alone.
    pub max_batch_size: u32,
    /// Microseconds of one run: reported if anything ran, else the probe's measurement; 0 = unknown.
    pub run_microseconds: u64,
    /// GFLOP/s of its device as measured; 0 = unknown.
    pub gflops: u64,
    /// Whether its device is a processor.
    pub on_cpu: bool,
    /// Bytes per second to the device as measured; 0 = unknown.
    pub upload_bytes_per_second: u64,
    /// Age of what is known of its load.
    pub report_age_microseconds: u64,
    /// What speaks against it, 0 = nothing: as long as a request can go to one of a lower tier, it does not come here.
    pub tier: u8,
}

/// What is known of a request before it is decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Bytes of its body.
    pub bytes: u64,
    /// Requests with the same key go to the same replica while that is there and not overloaded.
    pub session: Option<String>,
    /// The replica that answered the session last, where that is known: the session stays there even if a replica has come
    /// since that its key would choose.
    pub home: Option<String>,
    /// Replicas that have already refused this request.
    pub excluded: Vec<String>,
}

/// How a replica is picked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The fewest requests waiting and running.
    LeastLoaded,
    /// The fastest device for the model first; among equals the least loaded.
    GpuMatch,
    /// The earliest expected answer.
    #[default]
    Adaptive,
}

impl Strategy {
    /// Every one: what is not here passes untested.
    pub const ALL: [Self; 3] = [Self::LeastLoaded, Self::GpuMatch, Self::Adaptive];
}

/// The replica that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Its place in the list of candidates.
    pub index: usize,
    /// Why this one.
    pub because: Because,
}

/// Why a replica was picked. Its words (`Display`) are for people, [`Because::name`] is for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// No other could.
    Only,
    /// Its session is served there.
    Session,
    /// The replica of its session has more than its share, this one is the next in the session's order.
    SessionOverflow,
    /// So many requests wait and run there, and nowhere fewer.
    LeastLoaded {
        /// Requests that wait and run.
        load: u32,
    },
    /// A run takes so long there, and nowhere much less.
    GpuMatch {
        /// Microseconds of a run, expected.
        run_microseconds: u64,
    },
    /// The answer is expected after so long, and nowhere much earlier.
    Adaptive {
        /// Microseconds until the answer, expected.
        answer_microseconds: u64,
    },
}

impl Because {
    /// One word for a metric's label.
    ///
    /// ```
    /// use afterglow_policy::pick::Because;
    ///
    /// assert_eq!(Because::LeastLoaded { load: 3 }.name(), "least_loaded");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Only => "only",
            Self::Session => "session",
            Self::SessionOverflow => "session_overflow",
            Self::LeastLoaded { .. } => "least_loaded",
            Self::GpuMatch { .. } => "gpu_match",
            Self::Adaptive { .. } => "adaptive",
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only => write!(out, "no other replica can answer"),
            Self::Session => write!(out, "its session is served there"),
            Self::SessionOverflow => write!(out, "the replica of its session has more than its share"),
            Self::LeastLoaded { load } => write!(out, "least loaded: {load} requests there"),
            Self::GpuMatch { run_microseconds } => write!(out, "fastest device: {run_microseconds} us a run"),
            Self::Adaptive { answer_microseconds } => {
                write!(out, "earliest answer: expected after {answer_microseconds} us")
            }
        }
    }
}

impl Candidate {
    /// Requests that wait and run.
    fn load(&self) -> u32 {
        self.waiting.saturating_add(self.running)
    }
}
