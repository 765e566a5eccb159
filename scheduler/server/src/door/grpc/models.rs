//! What is asked beside inferences: about the server (answered here), about models (asked of a replica, with the client's
//! name put back), and about things that are not offered.

use afterglow_proto::inference as proto;
use afterglow_proto::inference::repository_index_response::ModelIndex;
use axum::extract::Request;
use axum::response::Response;
use prost::Message;
use tonic::Status;
use tonic_prost::ProstCodec;

use super::{Context, statistics, unary};
use crate::door::index;
use crate::refusal::{Kind, Refusal};
use crate::send::grpc::metadata;
use crate::snapshot::{Call, ready};

pub(super) async fn serve(method: &str, context: Context, request: Request) -> Response {
    match method {
        "ServerLive" => {
            answer(&context, request, async |_, _: proto::ServerLiveRequest| {
                Ok(proto::ServerLiveResponse { live: true })
            })
            .await
        }
        "ServerReady" => {
            answer(
                &context,
                request,
                async |context, _: proto::ServerReadyRequest| {
                    let ready = context.scheduler.ready();
                    Ok(proto::ServerReadyResponse { ready })
                },
            )
            .await
        }
        "ServerMetadata" => {
            answer(&context, request, async |_, _: proto::ServerMetadataRequest| {
                Ok(proto::ServerMetadataResponse {
                    name: index::NAME.to_owned(),
                    version: index::VERSION.to_owned(),
                    extensions: index::EXTENSIONS.map(str::to_owned).to_vec(),
                })
            })
            .await
        }
        "ModelReady" => answer(&context, request, model_ready).await,
        "ModelMetadata" => answer(&context, request, model_metadata).await,
        "ModelConfig" => answer(&context, request, model_config).await,
        "ModelStatistics" => answer(&context, request, model_statistics).await,
        "RepositoryIndex" => answer(&context, request, repository_index).await,
        "RepositoryModelLoad" | "RepositoryModelUnload" => Refusal::new(Kind::Unimplemented, index::APPLY)
            .status()
            .into_http(),
        "SystemSharedMemoryStatus" => {
            answer(
                &context,
                request,
                async |_, _: proto::SystemSharedMemoryStatusRequest| {
                    Ok(proto::SystemSharedMemoryStatusResponse::default())
                },
            )
            .await
        }
        "CudaSharedMemoryStatus" => {
            answer(
                &context,
                request,
                async |_, _: proto::CudaSharedMemoryStatusRequest| {
                    Ok(proto::CudaSharedMemoryStatusResponse::default())
                },
            )
            .await
        }
        // Clients forget all regions before they begin; there are none, so this is done.
        "SystemSharedMemoryUnregister" => {
            answer(
                &context,
                request,
                async |_, _: proto::SystemSharedMemoryUnregisterRequest| {
                    Ok(proto::SystemSharedMemoryUnregisterResponse {})
                },
            )
            .await
        }
        "CudaSharedMemoryUnregister" => {
            answer(
                &context,
                request,
                async |_, _: proto::CudaSharedMemoryUnregisterRequest| {
                    Ok(proto::CudaSharedMemoryUnregisterResponse {})
                },
            )
            .await
        }
        other => {
            let message = match other {
                "SystemSharedMemoryRegister" | "CudaSharedMemoryRegister" => {
                    "shared memory is not offered: engines run on other machines".to_owned()
                }
                "TraceSetting" => "the trace extension is not offered".to_owned(),
                "LogSettings" => "the logging extension is not offered".to_owned(),
                _ => format!("no method `{other}`"),
            };
            Refusal::new(Kind::Unimplemented, message).status().into_http()
        }
    }
}

async fn answer<Q, A>(
    context: &Context,
    request: Request,
    handler: impl AsyncFn(Context, Q) -> Result<A, Status>,
) -> Response
where
    Q: Message + Default + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let service = tower::service_fn(|request: tonic::Request<Q>| {
        let answering = handler(context.clone(), request.into_inner());
        async move { answering.await.map(tonic::Response::new) }
    });
    unary(ProstCodec::<A, Q>::default(), context, request, service).await
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

impl Context {
    pub(crate) fn call(&self, model: String, version: Option<String>) -> Call {
        Call {
            namespace: self.namespace.clone(),
            model,
            version,
            session: self.hints.session.clone(),
            bytes: 0,
            inference: false,
            arrival: self.arrival,
            deadline: self.deadline,
        }
    }

    /// Asks one replica of a model.
    async fn ask<Q, A>(
        &self,
        call: &Call,
        method: &'static str,
        question: impl Fn(String) -> Q,
    ) -> Result<A, Status>
    where
        Q: Message + Default + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let metadata = metadata(&self.headers);
        let links = &self.scheduler.links;
        let sent = self
            .scheduler
            .send(call, |replica| {
                let question = question(replica.engine_model.clone());
                let (metadata, codec) = (&metadata, ProstCodec::<Q, A>::default());
                async move {
                    links
                        .call(&replica, method, question, codec, metadata, call.deadline)
                        .await
                }
            })
            .await
            .map_err(|refusal| refusal.status())?;
        match sent.answer {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(crate::send::grpc::renamed(&status, &sent.replica, &call.model)),
        }
    }
}

/// From the fleet: a replica is Ready when its engine answers for it. A model that is not there is not ready.
async fn model_ready(
    context: Context,
    request: proto::ModelReadyRequest,
) -> Result<proto::ModelReadyResponse, Status> {
    let call = context.call(request.name, given(request.version));
    let ready = ready(&context.scheduler.view(), &call).is_ok();
    Ok(proto::ModelReadyResponse { ready })
}

async fn model_metadata(
    context: Context,
    request: proto::ModelMetadataRequest,
) -> Result<proto::ModelMetadataResponse, Status> {
    let call = context.call(request.name, given(request.version));
    let version = call.version.clone().unwrap_or_default();
    let mut answer: proto::ModelMetadataResponse = context
        .ask(&call, "/inference.GRPCInferenceService/ModelMetadata", |name| {
            proto::ModelMetadataRequest {
                name,
                version: version.clone(),
            }
        })
        .await?;
    answer.versions = index::versions(&context.scheduler.view(), &call);
    answer.name = call.model;
    Ok(answer)
}

async fn model_config(
    context: Context,
    request: proto::ModelConfigRequest,
) -> Result<proto::ModelConfigResponse, Status> {
    let call = context.call(request.name, given(request.version));
    let version = call.version.clone().unwrap_or_default();
    let mut answer: proto::ModelConfigResponse = context
        .ask(&call, "/inference.GRPCInferenceService/ModelConfig", |name| {
            proto::ModelConfigRequest {
                name,
                version: version.clone(),
            }
        })
        .await?;
    if let Some(config) = &mut answer.config {
        config.name = call.model;
    }
    Ok(answer)
}

async fn model_statistics(
    context: Context,
    request: proto::ModelStatisticsRequest,
) -> Result<proto::ModelStatisticsResponse, Status> {
    let call = context.call(request.name, given(request.version));
    let model_stats = statistics::of(&context.scheduler, &call)
        .await
        .map_err(|refusal| refusal.status())?;
    Ok(proto::ModelStatisticsResponse { model_stats })
}

async fn repository_index(
    context: Context,
    request: proto::RepositoryIndexRequest,
) -> Result<proto::RepositoryIndexResponse, Status> {
    if !request.repository_name.is_empty() {
        return Err(Refusal::new(Kind::Unimplemented, index::UNNAMED).status());
    }
    let entries = index::entries(&context.scheduler.view(), &context.namespace);
    let models = entries
        .into_iter()
        .filter(|entry| entry.ready || !request.ready)
        .map(|entry| ModelIndex {
            state: entry.state().to_owned(),
            name: entry.name,
            version: entry.version.unwrap_or_default(),
            reason: entry.reason,
        })
        .collect();
    Ok(proto::RepositoryIndexResponse { models })
}
