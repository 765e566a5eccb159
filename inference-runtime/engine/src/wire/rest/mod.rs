//! OIP v2 over REST. Handlers are thin: read, decode, ask the engine, encode.
//!
//! Nothing is dispatched on `Content-Type`: clients in use send none, or a wrong one.

mod body;
mod compression;
mod failure;
mod health;
mod infer;
mod models;
mod repository;
mod respond;
mod target;

use axum::Router;
use axum::routing::{get, post};

use crate::Engine;

pub(super) use body::{offload, read};
pub(super) use failure::Failure;
pub(super) use repository::parse_config;
pub(super) use respond::bytes;

/// The paths that are offered.
pub(super) fn router(engine: Engine) -> Router {
    Router::new()
        .route("/v2", get(models::server))
        .route("/v2/", get(models::server))
        .route("/v2/health/live", get(health::live))
        .route("/v2/health/ready", get(health::ready))
        .route("/v2/models/stats", get(models::all_statistics))
        .route("/v2/models/{model}", get(models::metadata))
        .route("/v2/models/{model}/versions/{version}", get(models::metadata))
        .route("/v2/models/{model}/ready", get(health::model))
        .route("/v2/models/{model}/versions/{version}/ready", get(health::model))
        .route("/v2/models/{model}/config", get(models::config))
        .route(
            "/v2/models/{model}/versions/{version}/config",
            get(models::config),
        )
        .route("/v2/models/{model}/stats", get(models::statistics))
        .route(
            "/v2/models/{model}/versions/{version}/stats",
            get(models::statistics),
        )
        .route("/v2/models/{model}/infer", post(infer::infer))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer::infer))
        .route("/v2/repository/index", post(repository::index))
        .route("/v2/repository/models/{model}/load", post(repository::load))
        .route("/v2/repository/models/{model}/unload", post(repository::unload))
        .route("/v2/repository/{repository}/index", post(repository::named))
        .route(
            "/v2/repository/{repository}/models/{model}/load",
            post(repository::named),
        )
        .route(
            "/v2/repository/{repository}/models/{model}/unload",
            post(repository::named),
        )
        .with_state(engine)
}
