//! `ModelInfer`: the message passes as it is, with the engine's name for the model behind it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use tonic::Status;

use super::head::Head;
use super::{Context, unary};
use crate::door::counted::Counted;
use crate::door::{BECAUSE, REPLICA, header_value};
use crate::refusal::Refusal;
use crate::send::Sent;
use crate::send::grpc::{Pieces, Raw, addressed, metadata, renamed};
use crate::snapshot::Call;

const METHOD: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Bytes of an answer, or what the engine says instead.
pub(super) type Answer = Result<Bytes, Status>;

pub(super) async fn serve(context: Context, request: Request) -> Response {
    let room = match context.scheduler.admission.admit() {
        Ok(admitted) => Arc::new(Mutex::new(admitted)),
        Err(refusal) => return refusal.status().into_http(),
    };
    let request = request.map(|body| axum::body::Body::new(Counted::new(body, room.clone())));
    // Until the message is here.
    let mut admitting = Some(tracing::debug_span!("admit"));
    let handler = tower::service_fn(|request: tonic::Request<Bytes>| {
        drop(admitting.take());
        let (context, room) = (context.clone(), room.clone());
        async move {
            let message = request.into_inner();
            let opened = room
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .opened(message.len());
            opened.map_err(|refusal| refusal.status())?;
            answer(&context, message).await
        }
    });
    let response = unary(Raw, &context, request, handler).await;
    drop(room);
    response
}

async fn answer(context: &Context, message: Bytes) -> Result<tonic::Response<Pieces>, Status> {
    let head = Head::read(&message).map_err(|refusal| refusal.status())?;
    let sent = infer(context, &head, &message).await;
    let sent = sent.map_err(|refusal| refusal.status())?;
    let mut response = tonic::Response::new(Pieces::from(sent.answer?));
    if context.hints.explain {
        for (name, text) in [(REPLICA, &sent.replica.id), (BECAUSE, &sent.because)] {
            if let Ok(value) = tonic::metadata::MetadataValue::try_from(header_value(text).as_bytes()) {
                response.metadata_mut().insert(name, value);
            }
        }
    }
    Ok(response)
}

/// One inference, alone or within a stream.
pub(super) async fn infer(context: &Context, head: &Head, message: &Bytes) -> Result<Sent<Answer>, Refusal> {
    let call = Call {
        namespace: context.namespace.clone(),
        model: head.model.clone(),
        version: head.version.clone(),
        session: context.hints.session.clone().or_else(|| head.sequence.clone()),
        bytes: message.len() as u64,
        inference: true,
        arrival: context.arrival,
        deadline: context.deadline,
    };
    if call.deadline <= Instant::now() {
        return Err(Refusal::late(call.deadline - call.arrival));
    }
    let metadata = metadata(&context.headers);
    let links = &context.scheduler.links;
    let sent = context
        .scheduler
        .send(&call, |replica| {
            let metadata = &metadata;
            async move {
                let message = addressed(message, &replica.engine_model);
                links
                    .call(&replica, METHOD, message, Raw, metadata, call.deadline)
                    .await
            }
        })
        .await?;
    let answer = match sent.answer {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(renamed(&status, &sent.replica, &head.model)),
    };
    Ok(Sent {
        answer,
        replica: sent.replica,
        because: sent.because,
        flight: sent.flight,
    })
}
