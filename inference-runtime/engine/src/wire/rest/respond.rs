//! Answers with exactly the content type that clients compare with.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

/// JSON, with no `charset`: a client in use does not read the error otherwise.
pub(in crate::wire) fn json(status: StatusCode, value: &Value) -> Response {
    bytes(status, "application/json", value.to_string())
}

/// Any body, with its type.
pub(in crate::wire) fn bytes(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Body>,
) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// 200 and nothing.
pub(super) fn empty() -> Response {
    Response::new(Body::empty())
}
