//! Errors end with a hint: what the user can do about it.

use std::fmt::Write as _;

/// An error with advice.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Hinted {
    message: String,
    hint: String,
}

/// An error that says what went wrong and what to do.
pub(crate) fn error(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Hinted {
        message: message.into(),
        hint: hint.into(),
    })
}

/// The error's chain, a line each, and the hints found in it.
pub(crate) fn render(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for (depth, cause) in error.chain().enumerate() {
        let lead = if depth == 0 { "error" } else { "  caused by" };
        let _ = writeln!(text, "{lead}: {cause}");
    }
    for hinted in error.chain().filter_map(|cause| cause.downcast_ref::<Hinted>()) {
        let _ = writeln!(text, "hint: {}", hinted.hint);
    }
    text
}

/// Whether the reader of our output went away, as `head` does: not an error.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_prints_its_causes_and_then_what_to_do() {
        let error = error(
            "no server at http://127.0.0.1:8000",
            "start one with `afterglow up DIR`",
        )
        .context("listing models");
        assert_eq!(
            render(&error),
            "error: listing models\n  caused by: no server at http://127.0.0.1:8000\n\
             hint: start one with `afterglow up DIR`\n"
        );
    }
}
