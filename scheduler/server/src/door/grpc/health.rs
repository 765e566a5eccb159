//! `grpc.health.v1`: the whole server (empty name) and the inference service.

use std::sync::Arc;
use std::time::Duration;

use afterglow_proto::inference::grpc_inference_service_server::SERVICE_NAME;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::send::Scheduler;

/// How soon a watcher hears of a change.
const PERIOD: Duration = Duration::from_millis(250);

#[derive(Clone)]
pub(super) struct Health(Arc<Scheduler>);

impl Health {
    pub(super) fn new(scheduler: Arc<Scheduler>) -> Self {
        Self(scheduler)
    }

    fn state(&self, service: &str) -> Option<ServingStatus> {
        let known = service.is_empty() || service == SERVICE_NAME;
        known.then_some(if self.0.ready() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        })
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        let state = self.state(&service);
        let state = state.ok_or_else(|| Status::not_found(format!("no service `{service}`")))?;
        Ok(Response::new(answer(state)))
    }

    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let health = self.clone();
        let (answers, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut told = None;
            let mut period = tokio::time::interval(PERIOD);
            loop {
                tokio::select! {
                    () = answers.closed() => return,
                    () = health.0.leaving.cancelled() => {}
                    _ = period.tick() => {}
                }
                let state = health.state(&service).unwrap_or(ServingStatus::ServiceUnknown);
                if told != Some(state) && answers.send(Ok(answer(state))).await.is_err() {
                    return;
                }
                told = Some(state);
                // The last word is said; an open stream would hold up the shutdown.
                if health.0.leaving.is_cancelled() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn answer(state: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: state.into() }
}
