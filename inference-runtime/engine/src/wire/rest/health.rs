//! Whether the server and its models answer. Bodies are JSON: one client reads them, the others look at the status.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use crate::Engine;

use super::target::Target;
use super::{Failure, respond};

pub(super) async fn live() -> Response {
    respond::json(StatusCode::OK, &json!({"live": true}))
}

pub(super) async fn ready(State(engine): State<Engine>) -> Response {
    let ready = engine.ready();
    respond::json(status(ready), &json!({"ready": ready}))
}

pub(super) async fn model(State(engine): State<Engine>, target: Target) -> Result<Response, Failure> {
    let ready = engine.model_ready(&target.model, target.version.as_deref())?;
    Ok(respond::json(
        status(ready),
        &json!({"name": target.model, "ready": ready}),
    ))
}

fn status(ready: bool) -> StatusCode {
    if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
