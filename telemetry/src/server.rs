//! The span of a request that came in: the first one here of its trace.
//!
//! Inferences always get one. Small questions (is it alive, what models are there, metrics) get one only if whoever asks has
//! a trace: kubelets and Prometheus ask all day, and nobody wants to look at that.

use http::{HeaderMap, Method, Request, Response};
use tracing::field::Empty;
use tracing::{Span, debug_span};

use crate::context::adopt;

/// A request over HTTP.
pub fn rest<B>(request: &Request<B>) -> Span {
    if request.method() != Method::POST && !brings_trace(request.headers()) {
        return Span::none();
    }
    let span = debug_span!(
        "serve",
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = request.method().as_str(),
        url.path = request.uri().path(),
        http.response.status_code = Empty,
    );
    adopt(&span, request.headers());
    span
}

/// A call over gRPC.
pub fn grpc<B>(request: &Request<B>) -> Span {
    let (service, method) = request.uri().path().rsplit_once('/').unwrap_or_default();
    if !matches!(method, "ModelInfer" | "ModelStreamInfer") && !brings_trace(request.headers()) {
        return Span::none();
    }
    let span = debug_span!(
        "serve",
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.service = service.trim_start_matches('/'),
        rpc.method = method,
        rpc.grpc.status_code = Empty,
    );
    adopt(&span, request.headers());
    span
}

/// Notes how the request was answered: an error is only what was our fault, as OpenTelemetry has it for servers.
pub fn answered<B>(span: &Span, response: &Response<B>) {
    if span.is_disabled() {
        return;
    }
    let code = response
        .headers()
        .get("grpc-status")
        .and_then(|code| code.to_str().ok()?.parse::<i64>().ok());
    let grpc = span.has_field("rpc.grpc.status_code");
    let failed = if grpc {
        // No status in the head: it comes behind the message, and all is well.
        let code = code.unwrap_or(0);
        span.record("rpc.grpc.status_code", code);
        FAULTS.contains(&code)
    } else {
        span.record("http.response.status_code", i64::from(response.status().as_u16()));
        response.status().is_server_error()
    };
    if failed {
        span.record("otel.status_code", "error");
    }
}

/// Unknown, deadline exceeded, unimplemented, internal, unavailable, data loss.
const FAULTS: [i64; 6] = [2, 4, 12, 13, 14, 15];

fn brings_trace(headers: &HeaderMap) -> bool {
    headers.contains_key("traceparent")
}
