//! Errors as clients see them: a kind that every protocol maps to its own status, and a text that says what to do.

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is; each protocol has one status per kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is wrong: 400, `INVALID_ARGUMENT`.
    Invalid,
    /// No such model or version: 404, `NOT_FOUND`.
    NotFound,
    /// The body is larger than allowed: 413, `RESOURCE_EXHAUSTED`.
    TooLarge,
    /// An encoding that is not spoken here: 415, `UNIMPLEMENTED`.
    UnsupportedEncoding,
    /// Model not ready, queue full, draining: 503, `UNAVAILABLE`.
    Unavailable,
    /// The deadline passed: 504, `DEADLINE_EXCEEDED`.
    DeadlineExceeded,
    /// The client went away: no answer, `CANCELLED`.
    Cancelled,
    /// A feature that is not offered: 501, `UNIMPLEMENTED`.
    Unimplemented,
    /// The kernel or the runtime failed: 500, `INTERNAL`.
    Internal,
}

/// A failure, as a client is told of it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Decides the status.
    pub kind: Kind,
    /// Names the object and the operation, and says what to do where that is known.
    pub message: String,
}

impl Error {
    /// An error of a kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// No such model or version.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// Not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// Our or the runtime's fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }
}
