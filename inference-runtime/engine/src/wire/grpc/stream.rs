//! `ModelStreamInfer`: many inferences over one stream, run side by side and answered in the order they came.
//!
//! Two tasks and two bounded channels: one reads requests and starts them, one waits for the oldest and sends its answer.
//! An error is an answer like any other and leaves the stream open, unless the client asked for gRPC's own way.

use std::time::{Duration, Instant};

use afterglow_proto::inference::infer_parameter::ParameterChoice;
use afterglow_proto::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Status, Streaming};
use tracing::{Instrument as _, Span, debug_span};

use crate::Engine;
use crate::api::{Error, Result};
use crate::wire::status;

use super::infer::{self, Answer};
use super::mend;

/// Requests of one stream that run or wait at a time; the client's flow control does the rest.
const AT_A_TIME: usize = 64;

/// What a client gets.
pub(super) type Answers = ReceiverStream<Result<ModelStreamInferResponse, Status>>;

/// A request that was taken off the stream, or the reason why no more can be.
enum Taken {
    Running {
        id: String,
        answer: JoinHandle<Result<Answer>>,
    },
    Broken(Status),
}

/// Starts serving a stream.
pub(super) fn serve(
    engine: Engine,
    stop: CancellationToken,
    request: Request<Streaming<ModelInferRequest>>,
) -> Result<Answers, Status> {
    let (arrival, timeout) = (
        Instant::now(),
        infer::timeout(request.metadata()).map_err(status::grpc)?,
    );
    // The call's own timeout bounds the stream: each request gets what is left of it.
    let left = move || timeout.map(|timeout| timeout.saturating_sub(arrival.elapsed()));
    let closes_on_error = request
        .metadata()
        .get("triton_grpc_error")
        .is_some_and(|value| value == "true");
    let cancel = CancellationToken::new();
    let (taken, queue) = mpsc::channel(AT_A_TIME);
    let (answers, stream) = mpsc::channel(1);
    let reading = read(engine, stop, request.into_inner(), left, taken, cancel.clone());
    tokio::spawn(reading.instrument(Span::current()));
    tokio::spawn(answer(queue, answers, closes_on_error, cancel.drop_guard()));
    Ok(ReceiverStream::new(stream))
}

async fn read(
    engine: Engine,
    stop: CancellationToken,
    mut requests: Streaming<ModelInferRequest>,
    left: impl Fn() -> Option<Duration> + Send + 'static,
    taken: mpsc::Sender<Taken>,
    cancel: CancellationToken,
) {
    loop {
        // Room first: a request that is taken is started.
        let Ok(room) = taken.reserve().await else { return };
        let request = tokio::select! {
            () = cancel.cancelled() => return,
            () = stop.cancelled() => return,
            request = requests.message() => request,
        };
        match request {
            Ok(Some(request)) => {
                let (engine, cancel, arrival, left) =
                    (engine.clone(), cancel.child_token(), Instant::now(), left());
                let id = request.id.clone();
                let span = debug_span!("message", id);
                let answering = async move { infer::infer(&engine, request, arrival, left, cancel).await };
                let answer = tokio::spawn(answering.instrument(span));
                room.send(Taken::Running { id, answer });
            }
            Ok(None) => return,
            Err(status) => return room.send(Taken::Broken(mend::status(status))),
        }
    }
}

async fn answer(
    mut queue: mpsc::Receiver<Taken>,
    answers: mpsc::Sender<Result<ModelStreamInferResponse, Status>>,
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
        let result = result.unwrap_or_else(|_| Err(Error::internal("the request met a bug in the server")));
        let message = match result {
            Ok(answer) => Ok(success(answer)),
            Err(error) if closes_on_error => Err(status::grpc(error)),
            Err(error) => Ok(failure(id, error)),
        };
        let last = message.is_err();
        if answers.send(message).await.is_err() || last {
            return;
        }
    }
}

fn success(answer: Answer) -> ModelStreamInferResponse {
    let Answer {
        mut response,
        mark_final,
    } = answer;
    if mark_final {
        // One request, one answer: every answer is the last.
        let marker = InferParameter {
            parameter_choice: Some(ParameterChoice::BoolParam(true)),
        };
        response
            .parameters
            .insert("triton_final_response".to_owned(), marker);
    }
    ModelStreamInferResponse {
        error_message: String::new(),
        infer_response: Some(response),
    }
}

/// The id travels along, so that a client knows which of its requests failed.
fn failure(id: String, error: Error) -> ModelStreamInferResponse {
    ModelStreamInferResponse {
        error_message: status::text(error.message),
        infer_response: Some(ModelInferResponse {
            id,
            ..ModelInferResponse::default()
        }),
    }
}
