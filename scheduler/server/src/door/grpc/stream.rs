//! `ModelStreamInfer`: many inferences over one stream, run side by side and answered in the order they came.
//!
//! Each message is a request of its own: it is routed by itself, may be sent again by itself, and different messages may be
//! for different models. An error is an answer like any other and leaves the stream open, unless the client asked for
//! gRPC's own way (`triton_grpc_error`).

use std::time::Instant;

use afterglow_proto::inference::{ModelInferResponse, ModelStreamInferResponse};
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming};
use tracing::{Instrument as _, Span, debug_span};

use super::head::Head;
use super::infer::infer;
use super::{Context, code_name, mended, server};
use crate::admit::Admitted;
use crate::refusal::{Kind, Refusal};
use crate::send::grpc::{Pieces, Raw, varint};

/// Requests of one stream that are under way at a time; the client's flow control does the rest.
const AT_A_TIME: usize = 64;

/// `parameters["triton_final_response"] = true`, as it stands in a response. One request, one answer: every answer is the
/// last.
const FINAL: &[u8] = b"\x22\x1b\x0a\x15triton_final_response\x12\x02\x08\x01";

type Answers = ReceiverStream<Result<Pieces, Status>>;

/// A request that was taken off the stream, or the reason why no more can be.
enum Taken {
    Running {
        id: String,
        answer: JoinHandle<Result<Pieces, Status>>,
    },
    Broken(Status),
}

pub(super) async fn serve(context: Context, request: Request) -> Response {
    let handler = tower::service_fn(|request: tonic::Request<Streaming<Bytes>>| {
        let context = context.clone();
        async move { Ok::<_, Status>(tonic::Response::new(start(&context, request.into_inner()))) }
    });
    server(Raw, &context)
        .streaming(handler, request)
        .await
        .map(Body::new)
}

fn start(context: &Context, requests: Streaming<Bytes>) -> Answers {
    let closes_on_error = context
        .headers
        .get("triton_grpc_error")
        .is_some_and(|value| value == "true");
    let cancel = CancellationToken::new();
    let (taken, queue) = mpsc::channel(AT_A_TIME);
    let (answers, stream) = mpsc::channel(1);
    let reading = read(context.clone(), requests, taken, cancel.clone());
    tokio::spawn(reading.instrument(Span::current()));
    tokio::spawn(answer(queue, answers, closes_on_error, cancel.drop_guard()));
    ReceiverStream::new(stream)
}

async fn read(
    context: Context,
    mut requests: Streaming<Bytes>,
    taken: mpsc::Sender<Taken>,
    cancel: CancellationToken,
) {
    loop {
        // Room first: a request that is taken is started.
        let Ok(room) = taken.reserve().await else { return };
        let request = tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            request = requests.message() => request,
            () = context.scheduler.stop.cancelled() => {
                // Not the stream's end, which would mean that all was answered.
                let status = Status::unavailable("the scheduler leaves; open a new stream");
                return room.send(Taken::Broken(status));
            }
        };
        match request {
            Ok(Some(message)) => room.send(begin(&context, message, &cancel)),
            Ok(None) => return,
            Err(status) => return room.send(Taken::Broken(mended(status))),
        }
    }
}

/// Starts one of the stream's requests.
fn begin(context: &Context, message: Bytes, cancel: &CancellationToken) -> Taken {
    let admitted = context.scheduler.admission.admit().and_then(|mut admitted| {
        admitted.grow(message.len())?;
        Ok(admitted)
    });
    let head = Head::read(&message);
    let id = head.as_ref().map(|head| head.id.clone()).unwrap_or_default();
    // Each request has the whole time, within what the stream's own timeout leaves.
    let arrival = Instant::now();
    let whole = arrival + context.scheduler.limits.deadline;
    let asked = context.headers.contains_key("grpc-timeout");
    let context = Context {
        arrival,
        deadline: if asked {
            context.deadline.max(arrival)
        } else {
            whole
        },
        ..context.clone()
    };
    let cancel = cancel.clone();
    let span = debug_span!("message", id);
    let answering = async move {
        let answering = one(&context, admitted, head, message);
        let answer = cancel.run_until_cancelled_owned(answering).await;
        let answer = answer.unwrap_or_else(|| Err(Status::cancelled("the stream is gone")));
        let code = answer.as_ref().err().map_or(tonic::Code::Ok, Status::code);
        context
            .scheduler
            .metrics
            .answered("grpc-stream-message", code_name(code), arrival.elapsed());
        answer
    };
    let answer = tokio::spawn(answering.instrument(span));
    Taken::Running { id, answer }
}

async fn one(
    context: &Context,
    admitted: Result<Admitted, Refusal>,
    head: Result<Head, Refusal>,
    message: Bytes,
) -> Result<Pieces, Status> {
    let _admitted = admitted.map_err(|refusal| refusal.status())?;
    let head = head.map_err(|refusal| refusal.status())?;
    let sent = infer(context, &head, &message).await;
    let response = sent.map_err(|refusal| refusal.status())?.answer?;
    Ok(wrapped(response, head.mark_final))
}

/// `ModelStreamInferResponse.infer_response = 2`, around the bytes of an answer.
fn wrapped(response: Bytes, mark_final: bool) -> Pieces {
    let marker = Bytes::from_static(if mark_final { FINAL } else { b"" });
    let mut front = BytesMut::with_capacity(12);
    front.put_u8(0x12);
    varint(&mut front, (response.len() + marker.len()) as u64);
    Pieces([front.freeze(), response, marker])
}

/// The id travels along, so that a client knows which of its requests failed.
fn failure(id: String, status: &Status) -> Pieces {
    let message = ModelStreamInferResponse {
        error_message: status.message().to_owned(),
        infer_response: Some(ModelInferResponse {
            id,
            ..ModelInferResponse::default()
        }),
    };
    Pieces::from(Bytes::from(message.encode_to_vec()))
}

async fn answer(
    mut queue: mpsc::Receiver<Taken>,
    answers: mpsc::Sender<Result<Pieces, Status>>,
    closes_on_error: bool,
    _cancel: DropGuard,
) {
    loop {
        let taken = tokio::select! {
            () = answers.closed() => return,
            taken = queue.recv() => taken,
        };
        let (id, running) = match taken {
            None => return,
            Some(Taken::Running { id, answer }) => (id, answer),
            Some(Taken::Broken(status)) => {
                // The client may be gone; then nobody reads it.
                let _ = answers.send(Err(status)).await;
                return;
            }
        };
        let result = tokio::select! {
            () = answers.closed() => return,
            result = running => result,
        };
        let bug = Refusal::new(Kind::Internal, "the request met a bug in the scheduler");
        let message = match result.unwrap_or_else(|_| Err(bug.status())) {
            Ok(answer) => Ok(answer),
            Err(status) if closes_on_error => Err(status),
            Err(status) => Ok(failure(id, &status)),
        };
        let last = message.is_err();
        if answers.send(message).await.is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use afterglow_proto::inference::infer_parameter::ParameterChoice;

    use super::*;

    #[test]
    fn an_answer_is_wrapped_without_being_read() {
        let response = ModelInferResponse {
            model_name: "m".into(),
            id: "7".into(),
            raw_output_contents: vec![vec![0; 300].into()],
            ..Default::default()
        };
        for mark in [false, true] {
            let bytes = wrapped(response.encode_to_vec().into(), mark).0.concat();
            let read = ModelStreamInferResponse::decode(bytes.as_slice()).unwrap();
            assert!(read.error_message.is_empty());
            let mut inner = read.infer_response.unwrap();
            let marker = inner.parameters.remove("triton_final_response");
            assert_eq!(
                marker.and_then(|marker| marker.parameter_choice),
                mark.then_some(ParameterChoice::BoolParam(true))
            );
            assert_eq!(inner, response);
        }
    }

    #[test]
    fn a_failure_names_the_request_it_belongs_to() {
        let bytes = failure("7".into(), &Status::unavailable("full")).0.concat();
        let read = ModelStreamInferResponse::decode(bytes.as_slice()).unwrap();
        assert_eq!(read.error_message, "full");
        assert_eq!(read.infer_response.unwrap().id, "7");
    }
}
