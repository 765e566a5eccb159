//! The next step of a rolling update: which replicas to make and which to let go, so that never fewer serve than asked.

/// A replica that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
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
