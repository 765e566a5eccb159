//! A request's body: bounded in length as it arrives, in length after decompression, and in time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;

use crate::Limits;
use crate::api::{Error, Kind, Result};

use super::Failure;
use super::compression::{self, Coding};

/// A client that sends nothing for so long is told so.
const SILENCE: Duration = Duration::from_secs(30);

/// Work on bodies larger than this leaves the threads that serve sockets.
const LARGE: usize = 256 << 10;

/// Reads and decompresses a body.
pub(in crate::wire) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limits: &Limits,
) -> Result<Bytes, Failure> {
    let coding = coding(headers)?;
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limits.body_bytes) {
        return refuse(&mut body, limits.body_bytes).await;
    }
    // The announced length is a claim; it may reserve a little.
    let mut bytes = BytesMut::with_capacity(announced.unwrap_or(0).min(LARGE));
    while let Some(data) = next(&mut body).await? {
        if data.len() > limits.body_bytes - bytes.len() {
            return refuse(&mut body, limits.body_bytes).await;
        }
        bytes.extend_from_slice(&data);
    }
    let bytes = bytes.freeze();
    let most = limits.decompressed_bytes;
    match coding {
        None => Ok(bytes),
        Some(coding) => offload(bytes.len(), move || compression::unpack(coding, &bytes, most)).await,
    }
}

/// Runs work that takes long on a large body where it does not hold up other connections.
pub(in crate::wire) async fn offload<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T, Failure> {
    if size <= LARGE {
        return Ok(work()?);
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Failure::panicked()),
    }
}

/// The next piece of the body.
async fn next(body: &mut Body) -> Result<Option<Bytes>, Failure> {
    loop {
        let Ok(frame) = tokio::time::timeout(SILENCE, body.frame()).await else {
            let message = format!("the body did not go on for {} s", SILENCE.as_secs());
            return Err(Failure::http(StatusCode::REQUEST_TIMEOUT, message));
        };
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(Error::invalid(format!("the body ended early: {error}")).into()),
            // Trailers mean nothing here.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Refuses a body that is too large. A client that is still sending would see a reset instead of the answer, so twice as
/// much as it may send is read and thrown away first.
async fn refuse<T>(body: &mut Body, most: usize) -> Result<T, Failure> {
    let mut dropped = 0;
    while dropped / 2 <= most {
        match next(body).await {
            Ok(Some(data)) => dropped += data.len(),
            Ok(None) | Err(_) => break,
        }
    }
    let message = format!("the body is larger than {most} bytes");
    Err(Error::new(Kind::TooLarge, message).into())
}

fn coding(headers: &HeaderMap) -> Result<Option<Coding>> {
    let mut codings = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("?").split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty() && name != "identity");
    let Some(first) = codings.next() else {
        return Ok(None);
    };
    match (Coding::parse(&first), codings.next()) {
        (Some(coding), None) => Ok(Some(coding)),
        _ => Err(Error::new(
            Kind::UnsupportedEncoding,
            format!(
                "Content-Encoding `{first}` (or a chain of encodings) is not accepted; send gzip or deflate"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(coding: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_ENCODING, coding.parse().unwrap())])
    }

    fn limits(body: usize, decompressed: usize) -> Limits {
        Limits {
            body_bytes: body,
            decompressed_bytes: decompressed,
            ..Limits::default()
        }
    }

    async fn status(headers: &HeaderMap, body: &[u8], limits: &Limits) -> u16 {
        match read(headers, Body::from(body.to_vec()), limits).await {
            Ok(_) => 200,
            Err(failure) => failure.status.as_u16(),
        }
    }

    #[tokio::test]
    async fn a_body_at_the_limit_passes_and_one_byte_more_does_not() {
        let plain = HeaderMap::new();
        assert_eq!(status(&plain, &[0; 8], &limits(8, 8)).await, 200);
        assert_eq!(status(&plain, &[0; 9], &limits(8, 8)).await, 413);
    }

    #[tokio::test]
    async fn the_limit_after_decompression_is_its_own() {
        for coding in [Coding::Gzip, Coding::Deflate] {
            let headers = headers(coding.name());
            let packed = compression::pack(coding, &vec![0; 1 << 20]);
            assert!(packed.len() < 8192);
            assert_eq!(
                status(&headers, &packed, &limits(8192, 1 << 20)).await,
                200,
                "{coding:?}"
            );
            assert_eq!(
                status(&headers, &packed, &limits(8192, (1 << 20) - 1)).await,
                413,
                "{coding:?}"
            );
            assert_eq!(
                status(&headers, &packed[..packed.len() / 2], &limits(8192, 1 << 20)).await,
                400
            );
            assert_eq!(status(&headers, b"garbage", &limits(8192, 1 << 20)).await, 400);
        }
    }

    #[tokio::test]
    async fn unknown_and_chained_encodings_are_refused() {
        for coding in ["br", "gzip, gzip", "gzip, br", "zstd"] {
            assert_eq!(
                status(&headers(coding), b"", &Limits::default()).await,
                415,
                "{coding}"
            );
        }
        assert_eq!(status(&headers("identity"), b"{}", &Limits::default()).await, 200);
    }
}
