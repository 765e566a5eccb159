//! Errors in OpenAI's shape, with the headers that its clients act on.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::api::{Error, Kind};
use crate::wire::rest::{self, Failure};
use crate::wire::status;

/// Official clients try twice more on 409, 429 and 5xx unless this header says `false`.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// `{"error": {message, type, param, code}}`.
#[derive(Debug, Clone)]
pub(in crate::wire) struct Refusal {
    failure: Failure,
    kind: &'static str,
    code: Option<&'static str>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let kind = status::of(error.kind).openai;
        let code = (error.kind == Kind::NotFound).then_some("model_not_found");
        Self {
            failure: error.into(),
            kind,
            code,
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let kind = if failure.status.is_server_error() {
            status::of(Kind::Internal).openai
        } else {
            status::of(Kind::Invalid).openai
        };
        Self {
            failure,
            kind,
            code: None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { failure, kind, code } = self;
        let body = json!({
            "error": {"message": failure.message, "type": kind, "param": Value::Null, "code": code}
        });
        let mut response = rest::bytes(failure.status, "application/json", body.to_string());
        failure.advise(&mut response);
        if !failure.retry && failure.status != StatusCode::OK {
            response
                .headers_mut()
                .insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: Kind, name: &str) -> Option<String> {
        let response = Refusal::from(Error::new(kind, "why")).into_response();
        response
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn clients_retry_where_that_may_help_and_nowhere_else() {
        assert_eq!(header(Kind::Unavailable, "retry-after").as_deref(), Some("1"));
        assert_eq!(header(Kind::Unavailable, "x-should-retry"), None);
        for kind in [
            Kind::Internal,
            Kind::DeadlineExceeded,
            Kind::Invalid,
            Kind::NotFound,
        ] {
            assert_eq!(
                header(kind, "x-should-retry").as_deref(),
                Some("false"),
                "{kind:?}"
            );
            assert_eq!(header(kind, "retry-after"), None, "{kind:?}");
        }
    }
}
