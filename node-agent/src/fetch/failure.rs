//! Why a model could not be fetched, and whether it is worth trying again.

use std::io;

/// Why a model could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The condition's reason.
    pub reason: &'static str,
    /// What, where, and what to do.
    pub message: String,
    /// When to try again.
    pub retry: Retry,
}

/// When to try again what has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It may pass by itself: soon, then ever more rarely.
    Soon,
    /// Somebody has to do something: now and then.
    Slowly,
    /// The same input will always fail.
    Never,
}

impl Failure {
    /// A failure with its condition's reason.
    pub fn new(reason: &'static str, retry: Retry, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry,
        }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new("SourceNotFound", Retry::Slowly, message)
    }

    pub(super) fn unreachable(message: impl Into<String>) -> Self {
        Self::new("SourceUnreachable", Retry::Soon, message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new("SourceForbidden", Retry::Slowly, message)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new("PackageInvalid", Retry::Never, message)
    }

    /// Our own disk.
    pub(super) fn cache(doing: &str, error: &io::Error) -> Self {
        Self::new(
            "CacheFull",
            Retry::Soon,
            format!("the node's model cache: {doing}: {error}; look at the disk behind the agent's --cache"),
        )
    }
}

/// An error with everything that lies behind it: HTTP clients say only the outermost by themselves.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
