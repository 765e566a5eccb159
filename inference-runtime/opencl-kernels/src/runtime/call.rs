//! OpenCL's status codes as errors.

use opencl3::error_codes::error_text;

use crate::error::{Error, Result};

/// Turns the status of an OpenCL call into an error that names the call and its object.
pub(super) fn check<T>(
    operation: &'static str,
    object: impl FnOnce() -> String,
    result: Result<T, i32>,
) -> Result<T> {
    result.map_err(|code| Error::OpenCl {
        operation,
        object: object(),
        code,
        name: error_text(code).to_owned(),
    })
}

/// Logs a failed release. There is nothing else to do about one: the object is gone for us.
pub(super) fn released(operation: &'static str, result: Result<(), i32>) {
    if let Err(code) = result {
        tracing::warn!(
            operation,
            code,
            name = error_text(code),
            "OpenCL did not release an object"
        );
    }
}
