//! The next step of a rolling update: which replicas to make and which to let go, so that never fewer serve than asked.
//!
//! What holds after every step, whatever comes before it:
//!
//! - Never fewer than `replicas - max_unavailable` replicas are ready, of any revision, if that many were.
//! - Nor fewer than that many of old revisions are active, together with those of the newest that are ready, if that many were:
//!   an old replica whose engine starts anew while the newest revision does not get ready is waited for, as nobody makes
//!   another of it.
//! - Never more than `replicas + max_surge` are active (neither failed, lost nor leaving), unless they were already.
//! - A lost replica does not count: its replacement is made at once. The lost one itself goes when the deployment is
//!   complete, so that a node that comes back in between brings its replica back.
//! - A failed replica stays, as a record of where not to try again, until the deployment is complete. So the newest revision
//!   has at most `replicas + max(1, max_surge)` replicas that are active or failed: a model that fails everywhere is not
//!   tried forever.
//! - What serves goes last: not ready, then lost, then old revisions, then the newest; among equals by name.

mod decide;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tables;

pub use decide::step;

/// A replica that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what is known of a replica; any combination can be seen"
)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// Its revision.
    pub revision: i64,
    /// Whether it serves.
    pub ready: bool,
    /// Whether it has failed for good on its device (it will not become ready by waiting).
    pub failed: bool,
    /// Whether its node is gone or silent.
    pub lost: bool,
    /// Whether it is being deleted already.
    pub leaving: bool,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The newest revision.
    pub revision: i64,
    /// How many replicas.
    pub replicas: u32,
    /// How many above that may exist.
    pub max_surge: u32,
    /// How many of `replicas` may be missing.
    pub max_unavailable: u32,
}

/// What to do now. The caller asks again when anything has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// How many replicas of the newest revision to make.
    pub create: u32,
    /// Names of replicas to delete.
    pub delete: Vec<String>,
}

impl Step {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.create == 0 && self.delete.is_empty()
    }
}
