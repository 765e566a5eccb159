//! Open Inference Protocol over REST, and OpenAI's models and embeddings. Bodies pass as the bytes they are.
//!
//! Nothing is dispatched on `Content-Type`: clients in use send none, or a wrong one.

mod answer;
mod body;
mod forward;
mod inference;
mod models;
mod openai;
mod path;
mod splice;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use futures::FutureExt as _;
use http::{HeaderValue, Method, Uri, header};
use tracing::Instrument as _;

use crate::refusal::{Kind, Refusal};
use crate::send::Scheduler;
use answer::{Shape, shaped};

/// The paths that are offered.
pub(crate) fn router(scheduler: Arc<Scheduler>) -> Router {
    let openai = Router::new()
        .route("/models", get(openai::list))
        .route("/models/{model}", get(openai::one))
        .route("/embeddings", post(openai::embeddings));
    let mut router = Router::new()
        .route("/v2", get(models::server))
        .route("/v2/", get(models::server))
        .route("/v2/health/live", get(models::live))
        .route("/v2/health/ready", get(models::server_ready))
        .route("/v2/models/stats", get(models::all_statistics))
        .route("/v2/repository/index", post(models::index))
        .route("/v2/repository/models/{model}/load", post(models::apply))
        .route("/v2/repository/models/{model}/unload", post(models::apply))
        .route("/v2/repository/{repository}/index", post(models::named))
        .route(
            "/v2/repository/{repository}/models/{model}/load",
            post(models::named),
        )
        .route(
            "/v2/repository/{repository}/models/{model}/unload",
            post(models::named),
        )
        .nest("/v1", openai.clone())
        .nest("/openai/v1", openai);
    for prefix in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
        router = router
            .route(prefix, get(models::metadata))
            .route(&format!("{prefix}/ready"), get(models::ready))
            .route(&format!("{prefix}/config"), get(models::config))
            .route(&format!("{prefix}/stats"), get(models::statistics))
            .route(&format!("{prefix}/infer"), post(inference::infer));
    }
    router
        .fallback(no_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(scheduler.clone(), watch))
        .with_state(scheduler)
}

async fn no_path(uri: Uri) -> Response {
    shaped(Shape::of(uri.path()), &Refusal::new(Kind::NoPath, "Not Found"))
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let message = format!("method {method} is not allowed here");
    shaped(Shape::of(uri.path()), &Refusal::new(Kind::Method, message))
}

/// Counts answers, and asks for the connection's end when the server's is near. A panic costs the request that met it, never the
/// server.
async fn watch(State(scheduler): State<Arc<Scheduler>>, request: Request, next: Next) -> Response {
    let arrival = Instant::now();
    let shape = Shape::of(request.uri().path());
    let span = afterglow_telemetry::rest(&request);
    let caught = AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .instrument(span.clone())
        .await;
    let mut response = caught.unwrap_or_else(|_| {
        shaped(
            shape,
            &Refusal::new(
                Kind::Internal,
                "the request met a bug in the scheduler; its log has the details",
            ),
        )
    });
    if scheduler.leaving.is_cancelled() {
        // A connection that the client closes is not closed under its next request.
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    afterglow_telemetry::answered(&span, &response);
    let door = match shape {
        Shape::Inference => "rest",
        Shape::OpenAi => "openai",
    };
    scheduler
        .metrics
        .answered(door, response.status().as_str(), arrival.elapsed());
    response
}
