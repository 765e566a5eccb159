//! `GET /v1/models` and `GET /v1/models/{id}`: the models that embed text, and no others.

use axum::extract::{RawPathParams, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::Engine;
use crate::api::{EmbeddingModel, Error};
use crate::wire::oip::server;
use crate::wire::rest;

use super::Refusal;

pub(super) async fn list(State(engine): State<Engine>) -> Response {
    let models: Vec<Value> = engine.embedding_models().iter().map(describe).collect();
    json(&json!({"object": "list", "data": models}))
}

pub(super) async fn one(State(engine): State<Engine>, path: RawPathParams) -> Result<Response, Refusal> {
    let (_, wanted) = path.iter().next().unwrap_or_default();
    let models = engine.embedding_models();
    let model = models.iter().find(|model| model.name == wanted);
    let model = model.ok_or_else(|| Error::not_found(format!("no model `{wanted}` that embeds text")))?;
    Ok(json(&describe(model)))
}

fn describe(model: &EmbeddingModel) -> Value {
    json!({"id": model.shown_as, "object": "model", "created": model.created, "owned_by": server::NAME})
}

fn json(value: &Value) -> Response {
    rest::bytes(StatusCode::OK, "application/json", value.to_string())
}
