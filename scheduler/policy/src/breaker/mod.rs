//! Which replicas are left alone for a while: `(state, event, time, random) → state`, and from the states of a model's replicas
//! the order in which they are asked.
//!
//! Everything that may fail by itself has a [`State`] of its own: the connection to an engine, and each replica behind it.
//! [`step`] learns from what happened, [`standing`] says what that means now, [`tiers`] puts a model's replicas in order:
//!
//! 1. *Hard* causes need one event: it cannot be reached, it hangs, it does not have the model. There is nobody to ask.
//! 2. The *soft* cause is a run of faults, or many among many answers: somebody is there who answers badly. Soft causes never
//!    take more than half of the replicas that are there: when all fail, the model is bad, not its replicas.
//! 3. A pause doubles with each further failure. After it exactly one request goes there to see ([`Standing::MayProbe`]); its
//!    answer makes all good. Who cannot be reached is tried by whoever keeps the connection, never by a client's request.
//!
//! What this module does not do: it measures no time, draws no lots and knows no connection. Times are measured from an epoch
//! of the caller's choice, the same for all.
//!
//! ```
//! use std::time::Duration;
//! use afterglow_policy::breaker::{Event, Health, Standing, State, standing, step, tiers};
//!
//! let now = Duration::from_secs(100);
//! let dead = step(&State::default(), Event::Unreachable, now, 0);
//! let health = |state| Health { standing: standing(state, now), accepts: true, silent: Duration::ZERO };
//! assert_eq!(tiers(&[health(&State::default()), health(&dead)]), [0, 3]);
//! ```

#[cfg(test)]
mod properties;
mod standing;
mod step;
#[cfg(test)]
mod tables;

use std::time::Duration;

pub use standing::{Health, Standing, standing, tiers};
pub use step::{due, step};

/// A node reports at least once a second; one that has been silent for longer than this may be gone.
pub const SILENT: Duration = Duration::from_millis(1500);
/// The first pause after a hard cause; it doubles …
pub const HARD_FIRST: Duration = Duration::from_millis(500);
/// … up to this: to try costs one packet, and a replica that is back should not wait.
pub const HARD_LONGEST: Duration = Duration::from_secs(4);
/// The first pause after faults; it doubles …
pub const SOFT_FIRST: Duration = Duration::from_secs(5);
/// … up to this.
pub const SOFT_LONGEST: Duration = Duration::from_mins(1);
/// A request that was sent to see, and of which nothing was heard for so long, is not waited for: another may go.
pub const PROBE: Duration = Duration::from_secs(5);
/// So many faults one after the other and a replica is left alone …
pub const IN_A_ROW: u32 = 5;
/// … or if of at least so many answers of the last [`BUCKETS`] seconds …
pub const ENOUGH: u32 = 20;
/// … fewer than so many of a hundred were good.
pub const GOOD_PERCENT: u32 = 80;
/// Seconds that answers are counted for, one bucket a second.
pub const BUCKETS: usize = 10;

/// What happened. A full queue and a client's mistake are no events: they say nothing about the replica's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A good answer to what was begun at this time: one that was begun before the trouble proves nothing.
    Answered {
        /// When it was begun.
        started: Duration,
    },
    /// An error of its own, an answer that broke off, or none in time.
    Fault,
    /// A connection could not be made, or was lost.
    Unreachable,
    /// It says that it works, and nothing comes of it.
    Hung,
    /// It does not have the model (any more).
    NotThere,
    /// Its node says that it has the model (again).
    Listed,
    /// A request goes there to see.
    Probe,
}

/// Why something is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// [`Event::Unreachable`].
    Unreachable,
    /// [`Event::Hung`].
    Hung,
    /// [`Event::NotThere`].
    NotThere,
    /// Too many [`Event::Fault`]s.
    Faults,
}

impl Cause {
    /// Whether one event is enough, and half of the replicas no bound.
    ///
    /// ```
    /// use afterglow_policy::breaker::Cause;
    ///
    /// assert!(Cause::Unreachable.hard() && !Cause::Faults.hard());
    /// ```
    pub fn hard(self) -> bool {
        self != Self::Faults
    }

    /// The first pause and the longest.
    fn pauses(self) -> (Duration, Duration) {
        match self {
            Self::Unreachable | Self::NotThere => (HARD_FIRST, HARD_LONGEST),
            // To see whether it still hangs costs a client's request its patience.
            Self::Hung | Self::Faults => (SOFT_FIRST, SOFT_LONGEST),
        }
    }
}

/// What was learnt; `default()` is well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    /// Faults one after the other.
    row: u32,
    window: Window,
    out: Option<Out>,
    /// The last pause, until an answer comes.
    pause: Duration,
}

/// It is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Out {
    cause: Cause,
    since: Duration,
    until: Duration,
    /// When a request went there to see.
    probe: Option<Duration>,
}

/// Good and all answers of the last seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Window {
    buckets: [(u32, u32); BUCKETS],
    /// The second of the newest bucket.
    second: u64,
}
