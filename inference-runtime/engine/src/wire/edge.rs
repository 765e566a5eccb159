//! What every HTTP/1 path has in common: unknown paths, wrong methods, panics, and the log of our own failures.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, Uri};
use tracing::Instrument as _;

use super::guard::caught;
use super::openai::Refusal;
use super::rest::Failure;

/// Puts the common parts around a server's paths.
pub(super) fn wrap(router: Router) -> Router {
    router
        .fallback(no_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(watch))
}

async fn no_path(uri: Uri) -> Response {
    shaped(uri.path(), Failure::no_path())
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    shaped(uri.path(), Failure::method(&method))
}

async fn watch(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = afterglow_telemetry::rest(&request);
    let response = match caught(next.run(request)).instrument(span.clone()).await {
        Ok(response) => response,
        Err(_) => shaped(&path, Failure::panicked()),
    };
    afterglow_telemetry::answered(&span, &response);
    // Not ready, a full queue, a deadline: clients are told, and the metrics count them.
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::warn!(%method, path, "request failed");
    }
    response
}

/// An error in the shape that the path's clients read.
fn shaped(path: &str, failure: Failure) -> Response {
    if path.starts_with("/v1/") || path.starts_with("/openai/") {
        Refusal::from(failure).into_response()
    } else {
        failure.into_response()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use http_body_util::BodyExt as _;
    use tonic::codegen::Service as _;

    use super::*;

    async fn answer(method: &str, path: &str) -> (StatusCode, serde_json::Value) {
        let mut router = wrap(
            Router::new()
                .route(
                    "/v2/panic",
                    get(async || -> &'static str { panic!("on purpose") }),
                )
                .route(
                    "/v1/panic",
                    get(async || -> &'static str { panic!("on purpose") }),
                ),
        );
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .unwrap();
        let response = router.call(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/json");
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn every_error_is_json_in_the_shape_of_its_path() {
        for (method, path, status) in [
            ("GET", "/nothing", StatusCode::NOT_FOUND),
            ("POST", "/v2/panic", StatusCode::METHOD_NOT_ALLOWED),
            ("GET", "/v2/panic", StatusCode::INTERNAL_SERVER_ERROR),
        ] {
            let (found, body) = answer(method, path).await;
            assert_eq!(found, status, "{method} {path}");
            assert!(body["error"].is_string(), "{body}");
        }
        for (path, status) in [
            ("/v1/nothing", StatusCode::NOT_FOUND),
            ("/v1/panic", StatusCode::INTERNAL_SERVER_ERROR),
        ] {
            let (found, body) = answer("GET", path).await;
            assert_eq!(found, status, "{path}");
            assert!(body["error"]["message"].is_string(), "{body}");
        }
        assert_eq!(
            answer("GET", "/nothing").await.1,
            serde_json::json!({"error": "Not Found"})
        );
    }
}
