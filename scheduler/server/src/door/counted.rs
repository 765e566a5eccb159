//! A body whose bytes are counted as they come: what does not fit is refused before it is here.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::admit::Admitted;

/// A request's room, shared by its body and its handler.
pub(super) type Room = Arc<Mutex<Admitted>>;

/// See the module.
pub(super) struct Counted {
    body: Body,
    room: Room,
}

impl Counted {
    pub(super) fn new(body: Body, room: Room) -> Self {
        Self { body, room }
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => {
                return Poll::Ready(Some(Err(tonic::Status::cancelled(format!(
                    "the request ended early: {error}"
                )))));
            }
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let grown = self
            .room
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .grow(bytes);
        Poll::Ready(Some(grown.map(|()| frame).map_err(|refusal| refusal.status())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
