//! OpenAI's models and embeddings endpoints, for the models of this server that embed text.

mod embeddings;
mod models;
mod refusal;
mod request;

use axum::Router;
use axum::routing::{get, post};

use crate::Engine;

pub(super) use refusal::Refusal;

/// The paths below `/v1` (and below `/openai/v1`, where other servers have them).
pub(super) fn router(engine: Engine) -> Router {
    let paths = Router::new()
        .route("/models", get(models::list))
        .route("/models/{model}", get(models::one))
        .route("/embeddings", post(embeddings::create))
        .with_state(engine);
    Router::new().nest("/v1", paths.clone()).nest("/openai/v1", paths)
}
