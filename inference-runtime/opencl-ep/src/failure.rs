//! The one error type of this crate, and how errors and panics become statuses.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use opencl_kernels::Error;
use ort_ep_sys::{Host, HostError, OrtErrorCode, OrtStatusPtr};

/// What the runtime is told when a callback fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// Decides, among others, whether a server answers "your request" or "our fault".
    pub(crate) code: OrtErrorCode,
    /// Object and operation.
    pub(crate) message: String,
}

impl Failure {
    /// Our fault, or the machine's.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self {
            code: OrtErrorCode::ORT_EP_FAIL,
            message: message.into(),
        }
    }

    /// The caller's fault.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            code: OrtErrorCode::ORT_INVALID_ARGUMENT,
            message: message.into(),
        }
    }

    /// The same failure, with what was being done in front.
    pub(crate) fn while_doing(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid { .. } | Error::IndexOutOfRange { .. } => Self::invalid(error.to_string()),
            _ => Self::internal(error.to_string()),
        }
    }
}

/// Runs a callback's body; an error or a panic becomes a status. A panic that left an `extern` function would abort
/// the process, and with it every model it serves.
pub(crate) fn guard(host: Host, what: &str, body: impl FnOnce() -> Result<(), Failure>) -> OrtStatusPtr {
    match catch(what, body) {
        Ok(()) => OrtStatusPtr::default(),
        Err(failure) => host.status(failure.code, &format!("Afterglow: {}", failure.message)),
    }
}

/// Runs a callback's body that has no way to report: the panic is swallowed and `fallback` returned.
pub(crate) fn guard_silent<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(fallback)
}

fn catch(what: &str, body: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        Err(Failure::internal(format!(
            "{what} panicked: {}; please report this",
            panic_text(panic.as_ref())
        )))
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_failure_that_names_the_operation_and_the_message() {
        let failure = catch("Compute of 'x'", || panic!("index {}", 7)).unwrap_err();
        assert_eq!(failure.code, OrtErrorCode::ORT_EP_FAIL);
        assert!(failure.message.contains("Compute of 'x'"), "{failure}");
        assert!(failure.message.contains("index 7"), "{failure}");
    }

    #[test]
    fn a_wrong_request_and_an_index_out_of_range_are_the_callers_fault() {
        let wrong = Error::Invalid {
            node: "mm".into(),
            op: "MatMul".into(),
            reason: "3 against 4".into(),
        };
        assert_eq!(Failure::from(wrong).code, OrtErrorCode::ORT_INVALID_ARGUMENT);
        let index = Error::IndexOutOfRange {
            node: "g".into(),
            op: "Gather".into(),
            index: 9,
            length: 3,
        };
        let failure = Failure::from(index);
        assert_eq!(failure.code, OrtErrorCode::ORT_INVALID_ARGUMENT);
        assert!(failure.message.contains("Gather 'g'"), "{failure}");
        assert_eq!(
            Failure::from(Error::NoDevice("none".into())).code,
            OrtErrorCode::ORT_EP_FAIL
        );
    }
}
