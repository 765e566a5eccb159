//! Open Inference Protocol over gRPC, and gRPC's own health service.
//!
//! Inferences pass as raw bytes; the small questions about models are typed. Requests may be compressed; answers are not:
//! Python's client announces gzip with every call, and compressing tensors costs more time than a local network saves.

mod deadline;
mod head;
mod health;
mod infer;
mod models;
mod statistics;
mod stream;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures::FutureExt as _;
use http::HeaderMap;
use tonic::codec::{Codec, CompressionEncoding};
use tonic::server::{Grpc, UnaryService};
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_health::pb::health_server::HealthServer;
use tracing::Instrument as _;

use super::Hints;
use crate::refusal::Refusal;
use crate::send::Scheduler;

pub(crate) use statistics::{json as statistics_json, of as statistics};

const SERVICE: &str = "/inference.GRPCInferenceService/{method}";

/// The services that are offered.
pub(crate) fn router(scheduler: Arc<Scheduler>) -> Router {
    let inference = Router::new()
        .route(SERVICE, axum::routing::post(call))
        .with_state(scheduler.clone());
    Routes::new(HealthServer::new(health::Health::new(scheduler)))
        .into_axum_router()
        .merge(inference)
}

/// What every call has: who it is for and how long it may take.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) scheduler: Arc<Scheduler>,
    hints: Hints,
    namespace: String,
    headers: Arc<HeaderMap>,
    arrival: Instant,
    deadline: Instant,
}

async fn call(State(scheduler): State<Arc<Scheduler>>, request: Request) -> Response {
    let arrival = Instant::now();
    let path = request.uri().path();
    let method = path.rsplit('/').next().unwrap_or_default().to_owned();
    let label = if method == "ModelStreamInfer" {
        "grpc-stream"
    } else {
        "grpc"
    };
    let span = afterglow_telemetry::grpc(&request);
    let mut response = match context(&scheduler, &request, arrival) {
        Ok(context) => {
            // A panic costs the request that met it, never its connection.
            let caught = AssertUnwindSafe(dispatch(&method, context, request))
                .catch_unwind()
                .instrument(span.clone())
                .await;
            caught.unwrap_or_else(|_| {
                let message = "the request met a bug in the scheduler; its log has the details";
                Status::internal(message).into_http()
            })
        }
        Err(refusal) => refusal.status().into_http(),
    };
    mend(response.headers_mut());
    afterglow_telemetry::answered(&span, &response);
    let code = response
        .headers()
        .get("grpc-status")
        .map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()));
    scheduler
        .metrics
        .answered(label, code_name(code), arrival.elapsed());
    response
}

fn context(scheduler: &Arc<Scheduler>, request: &Request, arrival: Instant) -> Result<Context, Refusal> {
    let headers = request.headers();
    let hints = Hints::of(headers);
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let host = authority.or_else(|| headers.get(http::header::HOST)?.to_str().ok());
    let wish = match headers.get("grpc-timeout") {
        None => None,
        Some(value) => Some(deadline::parse(value.to_str().unwrap_or("?"))?),
    };
    let longest = scheduler.limits.deadline;
    Ok(Context {
        namespace: scheduler.namespace(hints.namespace.as_deref(), host),
        scheduler: scheduler.clone(),
        hints,
        headers: Arc::new(headers.clone()),
        arrival,
        deadline: arrival + wish.unwrap_or(longest).min(longest),
    })
}

async fn dispatch(method: &str, context: Context, request: Request) -> Response {
    match method {
        "ModelInfer" => infer::serve(context, request).await,
        "ModelStreamInfer" => stream::serve(context, request).await,
        _ => models::serve(method, context, request).await,
    }
}

/// A server for one unary method.
async fn unary<C, S>(codec: C, context: &Context, request: http::Request<Body>, service: S) -> Response
where
    C: Codec,
    C::Encode: Send + Sync + 'static,
    C::Decode: Send + Sync + 'static,
    S: UnaryService<C::Decode, Response = C::Encode>,
{
    server(codec, context)
        .unary(service, request)
        .await
        .map(Body::new)
}

fn server<C: Codec>(codec: C, context: &Context) -> Grpc<C>
where
    C::Encode: Send + Sync + 'static,
{
    Grpc::new(codec)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .max_decoding_message_size(context.scheduler.limits.body_bytes)
        .max_encoding_message_size(usize::MAX)
}

/// Corrects what the gRPC library answers by itself, before any handler: a client's mistake is never our `INTERNAL`.
fn mend(headers: &mut HeaderMap) {
    let is = |code: Code| {
        headers
            .get("grpc-status")
            .is_some_and(|status| status == http::HeaderValue::from(code as i32))
    };
    let said = |text: &str| {
        headers
            .get("grpc-message")
            .and_then(|message| message.to_str().ok())
            .is_some_and(|message| message.starts_with(text))
    };
    let right = if is(Code::OutOfRange) {
        // tonic's word for a message over the limit.
        Code::ResourceExhausted
    } else if is(Code::Internal) && (said("failed%20to%20decode") || said("Error%20decompressing")) {
        Code::InvalidArgument
    } else {
        return;
    };
    headers.insert("grpc-status", http::HeaderValue::from(right as i32));
}

/// The same for a status that is still one.
fn mended(status: Status) -> Status {
    let message = status.message();
    let right = match status.code() {
        Code::OutOfRange => Code::ResourceExhausted,
        Code::Internal
            if message.starts_with("failed to decode") || message.starts_with("Error decompressing") =>
        {
            Code::InvalidArgument
        }
        _ => return status,
    };
    Status::new(right, message)
}

/// A code as gRPC spells it, for metrics.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
