//! A request's body: counted as it arrives, and bounded in time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use crate::admit::{Admission, Admitted};
use crate::refusal::{Kind, Refusal};

/// A client that sends nothing for so long is told so.
const SILENCE: Duration = Duration::from_secs(30);

/// Of a body that is refused so much more is read and thrown away: a client that is still sending would see a reset instead
/// of the answer.
const SWALLOWED: usize = 128 << 20;

/// Takes a request in, and its whole body.
#[tracing::instrument(name = "admit", level = "debug", skip_all)]
pub(super) async fn admit(admission: &Admission, body: Body) -> Result<(Admitted, Bytes), Refusal> {
    let mut room = admission.admit()?;
    let body = read(body, &mut room).await?;
    Ok((room, body))
}

/// Reads a body to its end.
async fn read(mut body: Body, room: &mut Admitted) -> Result<Bytes, Refusal> {
    let mut whole = BytesMut::new();
    while let Some(piece) = next(&mut body).await? {
        if let Err(refusal) = room.grow(piece.len()) {
            drop(whole);
            swallow(&mut body).await;
            return Err(refusal);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, Refusal> {
    loop {
        let Ok(frame) = tokio::time::timeout(SILENCE, body.frame()).await else {
            let message = format!("the body did not go on for {} s", SILENCE.as_secs());
            return Err(Refusal::new(Kind::DeadlineExceeded, message));
        };
        match frame {
            None => return Ok(None),
            Some(Err(error)) => {
                return Err(Refusal::invalid(format!("the body ended early: {error}")));
            }
            // Trailers mean nothing here.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn swallow(body: &mut Body) {
    let mut swallowed = 0;
    while swallowed < SWALLOWED {
        match next(body).await {
            Ok(Some(piece)) => swallowed += piece.len(),
            _ => return,
        }
    }
}
