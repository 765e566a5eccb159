//! One inference over gRPC, alone or within a stream.

use std::time::{Duration, Instant};

use afterglow_proto::inference::{ModelInferRequest, ModelInferResponse};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tracing::debug_span;

use crate::Engine;
use crate::api::{Error, InferRequest, Result};
use crate::wire::deadline;
use crate::wire::oip::grpc::{Body, decode, encode};

/// An answer, and whether its request asked for a marked last answer.
pub(super) struct Answer {
    pub(super) response: ModelInferResponse,
    pub(super) mark_final: bool,
}

/// Decodes, asks the engine, encodes. `timeout` is the call's own (`grpc-timeout`), counted from `arrival`.
pub(super) async fn infer(
    engine: &Engine,
    request: ModelInferRequest,
    arrival: Instant,
    timeout: Option<Duration>,
    cancel: CancellationToken,
) -> Result<Answer> {
    let Body {
        model,
        version,
        id,
        inputs,
        outputs,
        parameters,
    } = debug_span!("decode").in_scope(|| decode(request))?;
    if model.is_empty() {
        return Err(Error::invalid("the request has no model_name"));
    }
    let wishes = [timeout, parameters.timeout];
    let request = InferRequest {
        model,
        version,
        id,
        inputs,
        outputs,
        priority: parameters.priority,
        deadline: deadline::after(arrival, engine.limits().longest_deadline, wishes),
        cancel,
    };
    let response = engine.infer(request).await?;
    Ok(Answer {
        response: debug_span!("encode").in_scope(|| encode(response))?,
        mark_final: parameters.final_response_marker,
    })
}

/// The call's own timeout.
pub(super) fn timeout(metadata: &MetadataMap) -> Result<Option<Duration>> {
    let Some(value) = metadata.get("grpc-timeout") else {
        return Ok(None);
    };
    deadline::grpc_timeout(value.to_str().unwrap_or("?")).map(Some)
}
