//! Which queued requests run together, and when.
//!
//! The rules are those that users of Triton's dynamic batcher expect:
//!
//! 1. What has passed its deadline is expired and never runs.
//! 2. Requests are served by priority (lower number first), first come first served within one priority.
//! 3. Only compatible requests share a batch. The oldest request of a kind leads; compatible ones behind it join, in
//!    order, until the next one does not fit.
//! 4. A batch runs at once when it is full, when it reaches a preferred size, when its leader has waited for the
//!    maximal delay, or when waiting on would break a member's deadline. Otherwise it waits for company.
//! 5. While one kind waits for company, another kind whose batch is complete may run: the device would be idle. The
//!    one that waits is first again as soon as its own delay is over, so nothing starves within a priority.
//!
//! What this module does not do: it does not measure time, own a queue, or know tensors. Whoever does asks again
//! after each arrival, after each execution, and at the time that [`Decision::Wait`] names.

mod decide;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tables;

use std::num::NonZeroUsize;
use std::time::Duration;

pub use decide::decide;

/// A queued request. Times are measured from an epoch of the caller's choice, the same for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<K> {
    /// When it was queued.
    pub arrived: Duration,
    /// Rows it adds to a batch, at least 1; requests that cannot be merged count as 1.
    pub rows: usize,
    /// Requests with equal keys may share a batch.
    pub key: K,
    /// Lower is served first.
    pub priority: u64,
    /// After this its answer is worthless.
    pub deadline: Option<Duration>,
}

/// What a batch may look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most rows of one batch.
    pub max_rows: NonZeroUsize,
    /// Longest time a leader waits for company while the device is idle.
    pub max_delay: Duration,
    /// Sizes that run as soon as they are reached; larger than `max_rows` never happens. Any order.
    pub preferred_rows: Vec<usize>,
}

impl Limits {
    /// Every request runs alone, at once: for models that cannot be batched.
    ///
    /// ```
    /// use afterglow_policy::batch::Limits;
    /// assert_eq!(Limits::single().max_rows.get(), 1);
    /// ```
    pub fn single() -> Self {
        Self {
            max_rows: NonZeroUsize::MIN,
            max_delay: Duration::ZERO,
            preferred_rows: Vec::new(),
        }
    }
}

/// What to do next. Indices point into the slice given to [`decide`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Answer these with "deadline exceeded", take them out, and ask again. Ascending.
    Expire(Vec<usize>),
    /// Run these as one batch, in this order.
    Run(Vec<usize>),
    /// Nothing to do before this time, unless something arrives.
    Wait(Duration),
    /// The queue is empty.
    Idle,
}
