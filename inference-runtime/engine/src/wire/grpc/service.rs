//! The twenty RPCs: those that work, and those that say that they do not.

use std::collections::BTreeMap;
use std::time::Instant;

use afterglow_proto::inference::grpc_inference_service_server::GrpcInferenceService;
use afterglow_proto::inference::model_repository_parameter::ParameterChoice;
use afterglow_proto::inference::{self as proto, ModelInferRequest, ModelInferResponse};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::Engine;
use crate::api::{Error, Kind, Result};
use crate::wire::oip::{config, server, statistics};
use crate::wire::{rest, status};

use super::{infer, stream};

type Answer<T> = std::result::Result<Response<T>, Status>;

/// One engine, asked over gRPC.
pub(super) struct Service {
    engine: Engine,
    stop: CancellationToken,
}

impl Service {
    pub(super) fn new(engine: Engine, stop: CancellationToken) -> Self {
        Self { engine, stop }
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(&self, _: Request<proto::ServerLiveRequest>) -> Answer<proto::ServerLiveResponse> {
        Ok(Response::new(proto::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<proto::ServerReadyRequest>,
    ) -> Answer<proto::ServerReadyResponse> {
        let ready = self.engine.ready() && !self.stop.is_cancelled();
        Ok(Response::new(proto::ServerReadyResponse { ready }))
    }

    async fn model_ready(
        &self,
        request: Request<proto::ModelReadyRequest>,
    ) -> Answer<proto::ModelReadyResponse> {
        let proto::ModelReadyRequest { name, version } = request.into_inner();
        // A model that is not there is not ready: clients ask for a bool and get one, where REST answers 404.
        let ready = self.engine.model_ready(&name, given(&version)).unwrap_or(false);
        Ok(Response::new(proto::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<proto::ServerMetadataRequest>,
    ) -> Answer<proto::ServerMetadataResponse> {
        Ok(Response::new(server::message()))
    }

    async fn model_metadata(
        &self,
        request: Request<proto::ModelMetadataRequest>,
    ) -> Answer<proto::ModelMetadataResponse> {
        let proto::ModelMetadataRequest { name, version } = request.into_inner();
        let metadata = self
            .engine
            .metadata(&name, given(&version))
            .map_err(status::grpc)?;
        Ok(Response::new(server::model_message(metadata)))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        let arrival = Instant::now();
        // The server drops this future when the client goes away; the engine then hears of it.
        let cancel = CancellationToken::new();
        let _gone = cancel.clone().drop_guard();
        let timeout = infer::timeout(request.metadata()).map_err(status::grpc)?;
        let answer = infer::infer(&self.engine, request.into_inner(), arrival, timeout, cancel).await;
        Ok(Response::new(answer.map_err(status::grpc)?.response))
    }

    type ModelStreamInferStream = stream::Answers;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        stream::serve(self.engine.clone(), self.stop.clone(), request).map(Response::new)
    }

    async fn model_config(
        &self,
        request: Request<proto::ModelConfigRequest>,
    ) -> Answer<proto::ModelConfigResponse> {
        let proto::ModelConfigRequest { name, version } = request.into_inner();
        let config = self.engine.config(&name, given(&version)).map_err(status::grpc)?;
        Ok(Response::new(proto::ModelConfigResponse {
            config: Some(config::message(config)),
        }))
    }

    async fn model_statistics(
        &self,
        request: Request<proto::ModelStatisticsRequest>,
    ) -> Answer<proto::ModelStatisticsResponse> {
        let proto::ModelStatisticsRequest { name, version } = request.into_inner();
        let statistics = self
            .engine
            .statistics(given(&name), given(&version))
            .map_err(status::grpc)?;
        Ok(Response::new(statistics::message(statistics)))
    }

    async fn repository_index(
        &self,
        request: Request<proto::RepositoryIndexRequest>,
    ) -> Answer<proto::RepositoryIndexResponse> {
        let proto::RepositoryIndexRequest {
            repository_name,
            ready,
        } = request.into_inner();
        unnamed(&repository_name).map_err(status::grpc)?;
        Ok(Response::new(server::index_message(self.engine.index(ready))))
    }

    async fn repository_model_load(
        &self,
        request: Request<proto::RepositoryModelLoadRequest>,
    ) -> Answer<proto::RepositoryModelLoadResponse> {
        let proto::RepositoryModelLoadRequest {
            repository_name,
            model_name,
            parameters,
        } = request.into_inner();
        unnamed(&repository_name).map_err(status::grpc)?;
        let deepest = self.engine.limits().json_depth;
        let (config, files) = load_parameters(parameters, deepest).map_err(status::grpc)?;
        self.engine
            .load(&model_name, config, files)
            .await
            .map_err(status::grpc)?;
        Ok(Response::new(proto::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<proto::RepositoryModelUnloadRequest>,
    ) -> Answer<proto::RepositoryModelUnloadResponse> {
        let proto::RepositoryModelUnloadRequest {
            repository_name,
            model_name,
            parameters,
        } = request.into_inner();
        unnamed(&repository_name).map_err(status::grpc)?;
        for (key, parameter) in parameters {
            // Has no effect: no model here depends on another.
            if key != "unload_dependents"
                || !matches!(parameter.parameter_choice, Some(ParameterChoice::BoolParam(_)))
            {
                return Err(status::grpc(Error::invalid(format!(
                    "unload: unknown parameter `{key}`"
                ))));
            }
        }
        self.engine.unload(&model_name).await.map_err(status::grpc)?;
        Ok(Response::new(proto::RepositoryModelUnloadResponse {}))
    }

    async fn system_shared_memory_status(
        &self,
        _: Request<proto::SystemSharedMemoryStatusRequest>,
    ) -> Answer<proto::SystemSharedMemoryStatusResponse> {
        Ok(Response::new(proto::SystemSharedMemoryStatusResponse::default()))
    }

    async fn system_shared_memory_register(
        &self,
        _: Request<proto::SystemSharedMemoryRegisterRequest>,
    ) -> Answer<proto::SystemSharedMemoryRegisterResponse> {
        Err(absent("shared memory"))
    }

    /// Clients forget all regions before they begin; there are none, so this is done.
    async fn system_shared_memory_unregister(
        &self,
        _: Request<proto::SystemSharedMemoryUnregisterRequest>,
    ) -> Answer<proto::SystemSharedMemoryUnregisterResponse> {
        Ok(Response::new(proto::SystemSharedMemoryUnregisterResponse {}))
    }

    async fn cuda_shared_memory_status(
        &self,
        _: Request<proto::CudaSharedMemoryStatusRequest>,
    ) -> Answer<proto::CudaSharedMemoryStatusResponse> {
        Ok(Response::new(proto::CudaSharedMemoryStatusResponse::default()))
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<proto::CudaSharedMemoryRegisterRequest>,
    ) -> Answer<proto::CudaSharedMemoryRegisterResponse> {
        Err(absent("shared memory"))
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<proto::CudaSharedMemoryUnregisterRequest>,
    ) -> Answer<proto::CudaSharedMemoryUnregisterResponse> {
        Ok(Response::new(proto::CudaSharedMemoryUnregisterResponse {}))
    }

    async fn trace_setting(
        &self,
        _: Request<proto::TraceSettingRequest>,
    ) -> Answer<proto::TraceSettingResponse> {
        Err(absent("the trace extension"))
    }

    async fn log_settings(
        &self,
        _: Request<proto::LogSettingsRequest>,
    ) -> Answer<proto::LogSettingsResponse> {
        Err(absent("the logging extension"))
    }
}

/// Empty means "not given" in every request.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// There is one repository, and it has no name.
fn unnamed(repository: &str) -> Result<()> {
    if repository.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Unimplemented,
        "repositories have no names here; leave repository_name empty",
    ))
}

fn absent(what: &str) -> Status {
    status::grpc(Error::new(Kind::Unimplemented, format!("{what} is not offered")))
}

type Load = (Option<serde_json::Value>, Vec<(String, bytes::Bytes)>);

fn load_parameters(
    parameters: BTreeMap<String, proto::ModelRepositoryParameter>,
    deepest: usize,
) -> Result<Load> {
    let (mut config, mut files) = (None, Vec::new());
    for (key, parameter) in parameters {
        match (key.strip_prefix("file:"), parameter.parameter_choice) {
            (Some(path), Some(ParameterChoice::BytesParam(bytes))) => files.push((path.to_owned(), bytes)),
            (None, Some(ParameterChoice::StringParam(text))) if key == "config" => {
                config = Some(rest::parse_config(&text, deepest)?);
            }
            _ => {
                return Err(Error::invalid(format!(
                    "load: parameter `{key}` is unknown or of the wrong type"
                )));
            }
        }
    }
    Ok((config, files))
}
