//! An engine's place: answers every inference, and says who it is and what it was asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use afterglow_proto::inference::model_infer_response::InferOutputTensor;
use afterglow_proto::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelStatistics,
    ModelStatisticsRequest, ModelStatisticsResponse,
};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tonic::Status;
use tonic_prost::ProstCodec;

/// What an upstream does with inferences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Answers,
    Busy,
    Missing,
    Invalid,
    /// Until it is let go.
    Waits,
    /// At once, with an error of its own.
    Fails,
    /// REST only: the head and half of so many bytes; nothing more comes.
    Half(usize),
}

#[derive(Debug, Clone)]
pub(crate) struct Upstream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    mood: Mutex<Mood>,
    asked: AtomicUsize,
    arrived: Notify,
    go: Notify,
    heard: Mutex<Vec<(ModelInferRequest, http::HeaderMap)>>,
}

/// An upstream and where it listens.
pub(crate) struct Running {
    pub(crate) upstream: Upstream,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Upstream {
    pub(crate) async fn start(name: &str) -> Running {
        let upstream = Self(Arc::new(Inner {
            name: name.to_owned(),
            mood: Mutex::new(Mood::Answers),
            asked: AtomicUsize::new(0),
            arrived: Notify::new(),
            go: Notify::new(),
            heard: Mutex::default(),
        }));
        let rest = Router::new().fallback(rest).with_state(upstream.clone());
        let service = Router::new()
            .route(
                "/inference.GRPCInferenceService/{method}",
                axum::routing::post(rpc),
            )
            .with_state(upstream.clone());
        let (http, grpc) = (listen().await, listen().await);
        let running = Running {
            upstream,
            grpc: grpc.local_addr().unwrap(),
            http: http.local_addr().unwrap(),
        };
        tokio::spawn(async move { axum::serve(http, rest).await });
        tokio::spawn(async move { axum::serve(grpc, service).await });
        running
    }

    pub(crate) fn mood(&self, mood: Mood) {
        *self.0.mood.lock().unwrap() = mood;
    }

    pub(crate) fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// Waits until a request is here that waits to be let go.
    pub(crate) async fn arrived(&self) {
        self.0.arrived.notified().await;
    }

    pub(crate) fn let_go(&self) {
        self.0.go.notify_one();
    }

    /// Answers all that wait here, and what comes.
    pub(crate) fn let_all_go(&self) {
        self.mood(Mood::Answers);
        self.0.go.notify_waiters();
    }

    pub(crate) fn last(&self) -> (ModelInferRequest, http::HeaderMap) {
        self.0.heard.lock().unwrap().last().unwrap().clone()
    }

    async fn turn(&self) -> Mood {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let mood = *self.0.mood.lock().unwrap();
        if mood == Mood::Waits {
            self.0.arrived.notify_one();
            let mut go = std::pin::pin!(self.0.go.notified());
            go.as_mut().enable();
            // It may have changed its mood since.
            if *self.0.mood.lock().unwrap() == Mood::Waits {
                go.await;
            }
        }
        mood
    }
}

pub(crate) async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn rest(State(upstream): State<Upstream>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path = parts.uri.path().to_owned();
    if parts.method == http::Method::GET {
        return axum::Json(json!({"name": path, "id": path, "by": upstream.0.name})).into_response();
    }
    let error = |status, text: String| (status, axum::Json(json!({"error": text}))).into_response();
    match upstream.turn().await {
        Mood::Busy => return error(StatusCode::SERVICE_UNAVAILABLE, "the queue is full".into()),
        Mood::Missing => return error(StatusCode::NOT_FOUND, format!("no model in {path}")),
        Mood::Invalid => {
            let text = format!("model `team.{}`: wrong shape", upstream.0.name);
            return error(StatusCode::BAD_REQUEST, text);
        }
        Mood::Fails => return error(StatusCode::INTERNAL_SERVER_ERROR, "the kernel failed".into()),
        Mood::Half(bytes) => return half(bytes),
        Mood::Answers | Mood::Waits => {}
    }
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert("asked-path", path.parse().unwrap());
    headers.insert("asked-by", upstream.0.name.parse().unwrap());
    for name in [
        "inference-header-content-length",
        "traceparent",
        "content-encoding",
    ] {
        if let Some(value) = parts.headers.get(name) {
            headers.insert(name, value.clone());
        }
    }
    response
}

/// The head of an answer of so many bytes, and half of them.
fn half(bytes: usize) -> Response {
    let first = tokio_stream::once(Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; bytes / 2])));
    let body = tokio_stream::StreamExt::chain(first, tokio_stream::pending());
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert("content-length", bytes.into());
    response
}

async fn rpc(State(upstream): State<Upstream>, request: Request) -> Response {
    let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
    let headers = request.headers().clone();
    let name = upstream.0.name.clone();
    match method.as_str() {
        "ModelInfer" => {
            let service = tower::service_fn(|request: tonic::Request<ModelInferRequest>| {
                let (upstream, headers) = (upstream.clone(), headers.clone());
                async move { infer(&upstream, headers, request.into_inner()).await }
            });
            unary::<ModelInferResponse, ModelInferRequest, _>(request, service).await
        }
        "ModelMetadata" => {
            let service = tower::service_fn(|request: tonic::Request<ModelMetadataRequest>| async {
                Ok::<_, Status>(tonic::Response::new(ModelMetadataResponse {
                    name: request.into_inner().name,
                    versions: vec!["1".into()],
                    platform: "onnxruntime_onnx".into(),
                    ..Default::default()
                }))
            });
            unary::<ModelMetadataResponse, ModelMetadataRequest, _>(request, service).await
        }
        "ModelStatistics" => {
            let count = upstream.asked() as u64;
            let service = tower::service_fn(|_: tonic::Request<ModelStatisticsRequest>| {
                let statistics = ModelStatistics {
                    name: name.clone(),
                    inference_count: count,
                    ..Default::default()
                };
                async move {
                    Ok::<_, Status>(tonic::Response::new(ModelStatisticsResponse {
                        model_stats: vec![statistics],
                    }))
                }
            });
            unary::<ModelStatisticsResponse, ModelStatisticsRequest, _>(request, service).await
        }
        other => Status::unimplemented(other).into_http(),
    }
}

async fn infer(
    upstream: &Upstream,
    headers: http::HeaderMap,
    request: ModelInferRequest,
) -> Result<tonic::Response<ModelInferResponse>, Status> {
    upstream.0.heard.lock().unwrap().push((request.clone(), headers));
    match upstream.turn().await {
        Mood::Busy => return Err(Status::unavailable("the queue is full")),
        Mood::Missing => return Err(Status::not_found(format!("no model `{}`", request.model_name))),
        Mood::Invalid => {
            return Err(Status::invalid_argument(format!(
                "model `{}`: wrong shape",
                request.model_name
            )));
        }
        Mood::Fails => return Err(Status::internal("the kernel failed")),
        Mood::Answers | Mood::Waits | Mood::Half(_) => {}
    }
    Ok(tonic::Response::new(ModelInferResponse {
        model_name: "m".into(),
        id: request.id,
        outputs: vec![InferOutputTensor {
            name: upstream.0.name.clone(),
            ..Default::default()
        }],
        raw_output_contents: request.raw_input_contents,
        ..Default::default()
    }))
}

async fn unary<A, Q, S>(request: Request, service: S) -> Response
where
    A: prost::Message + Default + Send + Sync + 'static,
    Q: prost::Message + Default + Send + Sync + 'static,
    S: tonic::server::UnaryService<Q, Response = A>,
{
    tonic::server::Grpc::new(ProstCodec::<A, Q>::default())
        .unary(service, request)
        .await
        .map(Body::new)
}

/// A body as text.
pub(crate) fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
