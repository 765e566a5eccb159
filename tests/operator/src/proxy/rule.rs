//! What to do with which request: every fault of the proxy is such a rule.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::call::Call;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The API server never hears of it: this status comes back, with a `Retry-After` of so many seconds where there is one.
    Refuse(u16, Option<u32>),
    /// The API server does it, and the connection breaks before the answer.
    CutReply,
    /// The API server does it, and from then on nobody hears anything any more: what a process sees that is being killed.
    Halt,
    /// It lies around until the rule is lifted, and is then carried out, whoever may still wait for it.
    Delay,
    /// A watch begins so far back that the API server itself says 410.
    Rewind,
    /// Of a watch: it breaks where this event would have come.
    Cut,
    /// Of a watch: this event and all that follow wait until the rule is lifted.
    Hold,
}

impl What {
    /// Whether it is done to an event of a watch, and not to a request.
    pub(super) fn is_of_events(self) -> bool {
        matches!(self, Self::Cut | Self::Hold)
    }
}

/// A rule in force.
#[derive(Clone)]
pub struct Rule(Arc<Inner>);

struct Inner {
    which: Box<dyn Fn(&Call) -> bool + Send + Sync>,
    what: What,
    /// Its first one is passed over so many times …
    after: u64,
    /// … and then it happens so many times.
    times: u64,
    seen: AtomicU64,
    hits: watch::Sender<u64>,
    lifted: watch::Sender<bool>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}, {} times so far", self.0.what, self.hits())
    }
}

impl Rule {
    /// To everything that `which` says.
    pub fn to(which: impl Fn(&Call) -> bool + Send + Sync + 'static, what: What) -> Self {
        Self::made(Box::new(which), what, 0, u64::MAX)
    }

    /// To the number `nth` of them alone, from 1.
    pub fn to_nth(nth: u64, which: impl Fn(&Call) -> bool + Send + Sync + 'static, what: What) -> Self {
        Self::made(Box::new(which), what, nth.saturating_sub(1), 1)
    }

    /// To the first so many of them.
    pub fn to_first(times: u64, which: impl Fn(&Call) -> bool + Send + Sync + 'static, what: What) -> Self {
        Self::made(Box::new(which), what, 0, times)
    }

    fn made(which: Box<dyn Fn(&Call) -> bool + Send + Sync>, what: What, after: u64, times: u64) -> Self {
        Self(Arc::new(Inner {
            which,
            what,
            after,
            times,
            seen: AtomicU64::new(0),
            hits: watch::Sender::new(0),
            lifted: watch::Sender::new(false),
        }))
    }

    /// How often it has happened.
    pub fn hits(&self) -> u64 {
        *self.0.hits.borrow()
    }

    /// Until it has happened.
    pub async fn struck(&self) {
        let mut hits = self.0.hits.subscribe();
        // The sender lives as long as the rule.
        let _ = hits.wait_for(|hits| *hits > 0).await;
    }

    /// It is in force no longer, and what it held goes on.
    pub fn lift(&self) {
        self.0.lifted.send_replace(true);
    }

    pub(super) fn what(&self) -> What {
        self.0.what
    }

    pub(super) fn is_lifted(&self) -> bool {
        *self.0.lifted.borrow()
    }

    /// Until it is lifted.
    pub(super) async fn lifted(&self) {
        let mut lifted = self.0.lifted.subscribe();
        // The sender lives as long as the rule.
        let _ = lifted.wait_for(|lifted| *lifted).await;
    }

    /// Whether it happens to this one, which it counts.
    pub(super) fn strikes(&self, call: &Call) -> bool {
        if self.is_lifted() || !(self.0.which)(call) {
            return false;
        }
        let number = self.0.seen.fetch_add(1, Ordering::SeqCst);
        let is_meant = number >= self.0.after && number - self.0.after < self.0.times;
        if is_meant {
            self.0.hits.send_modify(|hits| *hits += 1);
        }
        is_meant
    }
}
