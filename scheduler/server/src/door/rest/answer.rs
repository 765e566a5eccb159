//! Answers that are our own, in the shape and with the headers that the path's clients read.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::refusal::{Kind, Refusal};

/// OpenAI's clients try twice more on 409, 429 and 5xx unless this header says `false`.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Whose errors a path's clients read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `{"error": string}`.
    Inference,
    /// `{"error": {message, type, param, code}}`.
    OpenAi,
}

impl Shape {
    pub(super) fn of(path: &str) -> Self {
        if path.starts_with("/v1/") || path.starts_with("/openai/") {
            Self::OpenAi
        } else {
            Self::Inference
        }
    }
}

/// JSON, with no `charset`: a client in use does not read the error otherwise.
pub(super) fn json(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A refusal.
pub(super) fn shaped(shape: Shape, refusal: &Refusal) -> Response {
    let Refusal { kind, message } = refusal;
    let names = kind.names();
    let body = match shape {
        Shape::Inference => json!({"error": message}),
        Shape::OpenAi => {
            let code = (*kind == Kind::NotFound).then_some("model_not_found");
            json!({"error": {"message": message, "type": names.openai, "param": null, "code": code}})
        }
    };
    let mut response = json(names.http, &body);
    let headers = response.headers_mut();
    if names.retry {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    } else if shape == Shape::OpenAi {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if *kind == Kind::UnsupportedEncoding {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"));
    }
    response
}

/// A refusal on its way out of a handler for `/v2`.
pub(super) struct Failure(pub(super) Refusal);

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl axum::response::IntoResponse for Failure {
    fn into_response(self) -> Response {
        shaped(Shape::Inference, &self.0)
    }
}

/// The same for `/v1`.
pub(super) struct OpenAiFailure(pub(super) Refusal);

impl From<Refusal> for OpenAiFailure {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl axum::response::IntoResponse for OpenAiFailure {
    fn into_response(self) -> Response {
        shaped(Shape::OpenAi, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_when_to_try_again_and_when_not_to() {
        let header = |shape, kind, name: &str| {
            let response = shaped(shape, &Refusal::new(kind, "why"));
            assert_eq!(response.headers()["content-type"], "application/json");
            response
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        for shape in [Shape::Inference, Shape::OpenAi] {
            for kind in [Kind::Unavailable, Kind::Shed] {
                assert_eq!(header(shape, kind, "retry-after").as_deref(), Some("1"));
                assert_eq!(header(shape, kind, "x-should-retry"), None);
            }
            assert_eq!(header(shape, Kind::NotFound, "retry-after"), None);
        }
        assert_eq!(
            header(Shape::OpenAi, Kind::NotFound, "x-should-retry").as_deref(),
            Some("false")
        );
    }
}
