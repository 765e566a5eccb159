//! OpenAI's models and embeddings. Which models embed text, their engines know: they are asked.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use futures::future::join_all;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::answer::{self, OpenAiFailure};
use super::forward::forward;
use super::path::Target;
use super::{body, splice};
use crate::refusal::{Kind, Refusal};
use crate::send::Scheduler;
use crate::send::web::{NotFound, Outgoing, towards_engine};
use crate::snapshot::Call;

/// A list does not wait longer for one model.
const LIST_WITHIN: Duration = Duration::from_secs(5);

/// A compressed body of more bytes takes milliseconds to open.
const LONG: usize = 64 << 10;

/// A listed model's description is short.
const LONGEST: usize = 64 << 10;

pub(super) async fn list(State(scheduler): State<Arc<Scheduler>>, target: Target) -> Response {
    let fleet = scheduler.view();
    let names = fleet
        .of(&target.namespace)
        .filter(|(_, model)| !model.ready.is_empty())
        .map(|(name, _)| name);
    let described = names.map(|name| {
        let (scheduler, target) = (&scheduler, &target);
        async move {
            let asked = describe(scheduler, target, name);
            tokio::time::timeout(LIST_WITHIN, asked).await.ok()?.ok()?
        }
    });
    let models: Vec<Value> = join_all(described).await.into_iter().flatten().collect();
    answer::json(StatusCode::OK, &json!({"object": "list", "data": models}))
}

pub(super) async fn one(
    State(scheduler): State<Arc<Scheduler>>,
    target: Target,
) -> Result<Response, OpenAiFailure> {
    let described = describe(&scheduler, &target, &target.model).await?;
    let described = described.ok_or_else(|| {
        Refusal::new(
            Kind::NotFound,
            format!("no model `{}` that embeds text", target.model),
        )
    })?;
    Ok(answer::json(StatusCode::OK, &described))
}

/// What a model's engine says of it; `None` if it does not embed text.
async fn describe(scheduler: &Scheduler, target: &Target, model: &str) -> Result<Option<Value>, Refusal> {
    let call = Call {
        model: model.to_owned(),
        version: None,
        ..target.call()
    };
    let response = forward(scheduler, target, &call, None, |replica| Outgoing {
        method: Method::GET,
        path: format!("/v1/models/{}", replica.engine_model),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        not_found: NotFound::Answer,
    })
    .await?;
    if response.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let body = http_body_util::Limited::new(response.into_body(), LONGEST).collect();
    let body = body
        .await
        .map_err(|error| Refusal::unavailable(format!("the engine's answer broke off: {error}")))?;
    let about: Option<Value> = serde_json::from_slice(&body.to_bytes()).ok();
    Ok(about.filter(|about| about["id"].is_string()).map(|mut about| {
        about["id"] = json!(model);
        about
    }))
}

pub(super) async fn embeddings(
    State(scheduler): State<Arc<Scheduler>>,
    target: Target,
    body: Body,
) -> Result<Response, OpenAiFailure> {
    let (mut room, body) = body::admit(&scheduler.admission, body).await?;
    let body = open(body, &target.headers, scheduler.limits.body_bytes).await?;
    room.opened(body.len())?;
    let mut call = target.call();
    call.model = splice::model(&body)?;
    call.bytes = body.len() as u64;
    call.inference = true;
    let mut headers = towards_engine(&target.headers);
    headers.remove(CONTENT_ENCODING);
    let response = forward(&scheduler, &target, &call, Some(room), |replica| Outgoing {
        method: Method::POST,
        path: "/v1/embeddings".to_owned(),
        headers: headers.clone(),
        body: splice::with_model(&body, &replica.engine_model),
        not_found: NotFound::Gone,
    })
    .await?;
    Ok(response.into_response())
}

/// The same as [`unpacked`]; a long body is opened beside the threads that serve everybody.
async fn open(body: Bytes, headers: &HeaderMap, most: usize) -> Result<Bytes, Refusal> {
    if body.len() <= LONG || !headers.contains_key(CONTENT_ENCODING) {
        return unpacked(body, headers, most);
    }
    let headers = headers.clone();
    let opening = tokio::task::spawn_blocking(move || unpacked(body, &headers, most));
    opening
        .await
        .map_err(|_| Refusal::new(Kind::Internal, "the request met a bug in the scheduler"))?
}

/// The body without its compression: the model's name stands inside.
fn unpacked(body: Bytes, headers: &HeaderMap, most: usize) -> Result<Bytes, Refusal> {
    let mut plain = Vec::new();
    let limit = most as u64 + 1;
    let coding = headers.get(CONTENT_ENCODING).map(http::HeaderValue::as_bytes);
    let read = match coding {
        None | Some(b"identity") => return Ok(body),
        Some(b"gzip") => MultiGzDecoder::new(body.as_ref())
            .take(limit)
            .read_to_end(&mut plain),
        Some(b"deflate") => ZlibDecoder::new(body.as_ref())
            .take(limit)
            .read_to_end(&mut plain),
        Some(other) => {
            let other = String::from_utf8_lossy(other).into_owned();
            return Err(Refusal::new(
                Kind::UnsupportedEncoding,
                format!("content-encoding `{other}` is not offered; gzip and deflate are"),
            ));
        }
    };
    read.map_err(|error| Refusal::invalid(format!("the body cannot be decompressed: {error}")))?;
    if plain.len() > most {
        return Err(Refusal::new(
            Kind::TooLarge,
            format!("the decompressed request has more than {most} bytes"),
        ));
    }
    Ok(plain.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_compressed_request_is_opened_within_bounds() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&[b'a'; 1000]).unwrap();
        let packed = Bytes::from(gzip.finish().unwrap());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        assert_eq!(unpacked(packed.clone(), &headers, 1000).unwrap().len(), 1000);
        assert_eq!(
            unpacked(packed.clone(), &headers, 999).unwrap_err().kind,
            Kind::TooLarge
        );
        assert_eq!(
            unpacked(Bytes::from_static(b"no"), &headers, 999)
                .unwrap_err()
                .kind,
            Kind::Invalid
        );
        headers.insert(CONTENT_ENCODING, "br".parse().unwrap());
        assert_eq!(
            unpacked(packed, &headers, 999).unwrap_err().kind,
            Kind::UnsupportedEncoding
        );
    }
}
