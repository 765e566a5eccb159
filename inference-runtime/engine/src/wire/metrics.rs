//! What Prometheus asks: its own listener, so that scraping needs no access to the models.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;

use crate::Engine;

use super::rest;

/// Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn router(engine: Engine) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .with_state(engine)
}

async fn metrics(State(engine): State<Engine>) -> Response {
    rest::bytes(StatusCode::OK, TEXT, engine.metrics().render())
}

/// The process answers.
async fn healthz() -> Response {
    (StatusCode::OK, "ok\n").into_response()
}
