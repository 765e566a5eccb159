//! A watch on its way to the operator, event by event.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Shared;
use super::call::Call;
use super::rule::{Rule, What};

/// The body of an answer.
pub(super) type Answer = UnsyncBoxBody<Bytes, io::Error>;

/// Passes the events of a watch on, as the rules say.
pub(super) fn watch(body: Body, call: Call, connection: u64, shared: Arc<Shared>) -> Answer {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let gone = sender.clone();
        tokio::select! {
            // The operator has closed the connection.
            () = gone.closed() => {}
            () = pass(body, call, connection, shared, sender) => {}
        }
    });
    StreamBody::new(ReceiverStream::new(receiver)).boxed_unsync()
}

type Sender = mpsc::Sender<Result<Frame<Bytes>, io::Error>>;

async fn pass(mut body: Body, call: Call, connection: u64, shared: Arc<Shared>, sender: Sender) {
    let mut cuts = shared.cuts.subscribe();
    let mut rest = BytesMut::new();
    loop {
        let frame = tokio::select! {
            biased;
            // No word, and no end either.
            () = shared.frozen(connection) => return std::future::pending().await,
            _ = cuts.changed() => return breaks(&sender).await,
            frame = body.frame() => frame,
        };
        let data = match frame {
            // The API server ends a watch in good order.
            None => return,
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(_)) => return breaks(&sender).await,
        };
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = rest.split_to(end + 1).freeze();
            // What only says how far the watch has come is no event.
            let is_event = !line.starts_with(br#"{"type":"BOOKMARK""#);
            let rule = is_event.then(|| shared.strike_event(&call, &line)).flatten();
            match rule.as_ref().map(Rule::what) {
                Some(What::Cut) => return breaks(&sender).await,
                Some(What::Hold) => {
                    if let Some(rule) = rule {
                        rule.lifted().await;
                    }
                }
                _ => {}
            }
            if sender.send(Ok(Frame::data(line))).await.is_err() {
                return;
            }
        }
    }
}

async fn breaks(sender: &Sender) {
    // If the operator is gone already, nobody needs to hear it.
    let _ = sender.send(Err(io::Error::other("broken on purpose"))).await;
}
