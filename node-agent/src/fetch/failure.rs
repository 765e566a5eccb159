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

    /// Our own disk: `doing` what, to what.
    pub(crate) fn cache(doing: &str, error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        let (reason, remedy) = match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded => (
                "CacheFull",
                "the disk behind the agent's --cache is full, and nothing is left in the cache that could go: make room on \
                 it, or give the agents a cache that fits it (spec.agent.cache.size of the InferenceCluster)",
            ),
            Kind::ReadOnlyFilesystem => (
                "CacheUnusable",
                "the disk behind the agent's --cache is read-only, as the kernel makes one that fails: look into the node's \
                 kernel log, then mount it for writing",
            ),
            Kind::PermissionDenied => (
                "CacheUnusable",
                "give the agent's user the folder behind its --cache",
            ),
            _ => (
                "CacheUnusable",
                "look at the disk behind the agent's --cache and into the node's kernel log",
            ),
        };
        Self::new(
            reason,
            Retry::Soon,
            format!("the node's model cache: {doing}: {error}; {remedy}; tried again by itself"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_disk_has_its_reason_and_a_remedy_and_is_tried_again() {
        for (number, reason, remedy) in [
            (28, "CacheFull", "make room"),
            (122, "CacheFull", "make room"),
            (30, "CacheUnusable", "mount it for writing"),
            (13, "CacheUnusable", "agent's user"),
            (5, "CacheUnusable", "kernel log"),
        ] {
            let failure = Failure::cache("writing a download", &io::Error::from_raw_os_error(number));
            assert_eq!(
                (failure.reason, failure.retry),
                (reason, Retry::Soon),
                "{failure}"
            );
            assert!(failure.message.contains(remedy), "{failure}");
            assert!(failure.message.contains("writing a download"), "{failure}");
        }
    }
}
