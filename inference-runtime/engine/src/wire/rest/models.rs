//! What the server and its models are: metadata, configuration, statistics.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use crate::Engine;
use crate::wire::oip::{config as configuration, server as description, statistics as figures};

use super::target::Target;
use super::{Failure, respond};

pub(super) async fn server() -> Response {
    respond::json(StatusCode::OK, &description::json())
}

pub(super) async fn metadata(State(engine): State<Engine>, target: Target) -> Result<Response, Failure> {
    let metadata = engine.metadata(&target.model, target.version.as_deref())?;
    Ok(respond::json(StatusCode::OK, &description::model_json(&metadata)))
}

pub(super) async fn config(State(engine): State<Engine>, target: Target) -> Result<Response, Failure> {
    let config = engine.config(&target.model, target.version.as_deref())?;
    Ok(respond::json(StatusCode::OK, &configuration::json(&config)))
}

pub(super) async fn statistics(State(engine): State<Engine>, target: Target) -> Result<Response, Failure> {
    let statistics = engine.statistics(Some(&target.model), target.version.as_deref())?;
    Ok(respond::json(StatusCode::OK, &figures::json(&statistics)))
}

pub(super) async fn all_statistics(State(engine): State<Engine>) -> Result<Response, Failure> {
    let statistics = engine.statistics(None, None)?;
    Ok(respond::json(StatusCode::OK, &figures::json(&statistics)))
}
