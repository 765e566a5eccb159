//! A refused request: `{"error": string}` and a status.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::api::{Error, Kind};
use crate::wire::status;

use super::respond;

/// What a client is told instead of an answer.
#[derive(Debug, Clone)]
pub(in crate::wire) struct Failure {
    /// The HTTP status.
    pub(in crate::wire) status: StatusCode,
    /// For people.
    pub(in crate::wire) message: String,
    /// Whether the same request may succeed a little later.
    pub(in crate::wire) retry: bool,
}

impl Failure {
    /// A failure of HTTP itself, which the engine has no kind for.
    pub(in crate::wire) fn http(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry: false,
        }
    }

    /// No such path.
    pub(in crate::wire) fn no_path() -> Self {
        Self::http(StatusCode::NOT_FOUND, "Not Found")
    }

    /// The path exists, for another method.
    pub(in crate::wire) fn method(method: &http::Method) -> Self {
        Self::http(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("method {method} is not allowed here"),
        )
    }

    /// A handler panicked.
    pub(in crate::wire) fn panicked() -> Self {
        Error::internal("the request met a bug in the server; its log has the details").into()
    }

    /// Headers that tell a client what to do next.
    pub(in crate::wire) fn advise(&self, response: &mut Response) {
        let headers = response.headers_mut();
        if self.retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == status::of(Kind::UnsupportedEncoding).http {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"));
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = status::of(error.kind);
        Self {
            status: status.http,
            message: status::text(error.message),
            retry: status.retry,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = respond::json(self.status, &json!({"error": self.message}));
        self.advise(&mut response);
        response
    }
}
