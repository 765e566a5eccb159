//! OIP v2 over gRPC, load reports, and gRPC's own health service.

mod health;
mod infer;
mod load;
mod mend;
mod service;
mod stream;

use afterglow_proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use afterglow_proto::load::load_server::LoadServer;
use axum::Router;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use crate::Engine;

/// The services that are offered.
///
/// Requests may be compressed; answers are not: Python's client announces gzip with every call, and compressing tensors
/// costs more time than a local network saves.
pub(super) fn router(engine: Engine, stop: CancellationToken) -> Router {
    let most = engine.limits().body_bytes;
    let health = health::Health::new(engine.clone(), stop.clone());
    let load = load::Load::new(engine.clone(), stop.clone());
    let inference = GrpcInferenceServiceServer::new(service::Service::new(engine, stop))
        .max_decoding_message_size(most)
        .max_encoding_message_size(usize::MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate);
    Routes::new(inference)
        .add_service(HealthServer::new(health))
        .add_service(LoadServer::new(load))
        .into_axum_router()
        .layer(axum::middleware::from_fn(mend::mend))
}
