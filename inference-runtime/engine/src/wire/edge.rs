//! What every HTTP/1 path has in common: unknown paths, wrong methods, panics, and the log of server errors.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{Method, Uri};

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
    let response = match caught(next.run(request)).await {
        Ok(response) => response,
        Err(_) => shaped(&path, Failure::panicked()),
    };
    if response.status().is_server_error() {
        tracing::warn!(%method, path, status = response.status().as_u16(), "request failed");
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
