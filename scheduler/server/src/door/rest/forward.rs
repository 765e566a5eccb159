//! A request to an engine, and its answer back: successes as they come, errors with the client's name for the model.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::path::Target;
use crate::admit::Admitted;
use crate::door::{BECAUSE, REPLICA, header_value};
use crate::fleet::Replica;
use crate::load::Flight;
use crate::refusal::Refusal;
use crate::send::Scheduler;
use crate::send::web::{Answer, Outgoing, towards_client};
use crate::snapshot::Call;

/// Sends what `outgoing` makes of a replica to the replica that is picked.
pub(super) async fn forward(
    scheduler: &Scheduler,
    target: &Target,
    call: &Call,
    room: Option<Admitted>,
    outgoing: impl Fn(&Replica) -> Outgoing,
) -> Result<Response, Refusal> {
    let web = &scheduler.web;
    let sent = scheduler
        .send(call, |replica| {
            let outgoing = outgoing(&replica);
            async move { web.call(&replica, outgoing).await }
        })
        .await?;
    let mut response = match sent.answer {
        Answer::Stream(response, link) => {
            let deadline = tokio::time::Instant::from_std(call.deadline);
            let end = Box::pin(async move {
                // All of it: who holds the link keeps the connection.
                let link = link;
                tokio::select! {
                    () = tokio::time::sleep_until(deadline) => "the answer did not end before the deadline",
                    () = link.lost.cancelled() => "the engine is not there any more",
                }
            });
            let held = (sent.flight, room);
            response.map(|body| {
                Body::new(Held {
                    body,
                    end,
                    _counted: held,
                })
            })
        }
        Answer::Whole(response) => response.map(Body::from),
        Answer::Error(response) => {
            let (mut parts, body) = response.into_parts();
            let body = renamed(&body, &sent.replica.engine_model, &call.model);
            parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
            Response::from_parts(parts, Body::from(body))
        }
    };
    let headers = response.headers_mut();
    towards_client(headers);
    if target.hints.explain {
        headers.insert(REPLICA, header_value(&sent.replica.id));
        headers.insert(BECAUSE, header_value(&sent.because));
    }
    Ok(response)
}

/// An engine's error in words that the client knows. Both names are JSON as they are: no quotes, no backslashes.
fn renamed(body: &Bytes, engine_model: &str, model: &str) -> Bytes {
    match std::str::from_utf8(body) {
        Ok(text) if text.contains(engine_model) => {
            let quoted = serde_json::Value::from(model).to_string();
            Bytes::from(text.replace(engine_model, quoted.trim_matches('"')))
        }
        _ => body.clone(),
    }
}

/// A body that keeps its request counted until the last byte is out, and ends with an error when nothing can come any more: a
/// client would wait for ever, and so would what is counted.
struct Held {
    body: Incoming,
    end: BoxFuture<'static, &'static str>,
    _counted: (Flight, Option<Admitted>),
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        self.end
            .as_mut()
            .poll(context)
            .map(|why| Some(Err(std::io::Error::other(why).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
