//! `POST /v2/models/{model}/infer`.

use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug_span};

use crate::Engine;
use crate::api::InferRequest;
use crate::wire::deadline;
use crate::wire::oip::rest::{Answer, Body as Decoded, Frame, decode, encode, frame, raw};

use super::compression::{self, Coding};
use super::target::Target;
use super::{Failure, body, offload, respond};

/// Length of the JSON before binary tensors.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Answers smaller than this are not worth compressing.
const SMALL: usize = 1024;

pub(super) async fn infer(
    State(engine): State<Engine>,
    target: Target,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let arrival = Instant::now();
    // The server drops this future when the client goes away; the engine then hears of it.
    let cancel = CancellationToken::new();
    let _gone = cancel.clone().drop_guard();
    let decoding = async {
        let body = body::read(&headers, body, engine.limits()).await?;
        read(&engine, &target, &headers, body).await
    };
    let Decoded {
        id,
        inputs,
        outputs,
        parameters,
        encoding,
    } = decoding.instrument(debug_span!("decode")).await?;
    let request = InferRequest {
        model: target.model,
        version: target.version,
        id,
        inputs,
        outputs,
        priority: parameters.priority,
        deadline: deadline::after(arrival, engine.limits().longest_deadline, [parameters.timeout]),
        cancel,
    };
    let response = engine.infer(request).await?;
    let size = response
        .outputs
        .iter()
        .map(|output| output.tensor.shape.iter().product::<usize>())
        .sum();
    let answering = async {
        let answer = offload(size, move || encode(&response, &encoding)).await?;
        write(&headers, answer).await
    };
    answering.instrument(debug_span!("encode")).await
}

async fn read(
    engine: &Engine,
    target: &Target,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Decoded, Failure> {
    // A header that is not text is not a number either.
    let length = headers
        .get(JSON_LENGTH)
        .map(|value| value.to_str().unwrap_or("?"));
    match frame(length, body)? {
        Frame::Raw(body) => {
            let config = engine.config(&target.model, target.version.as_deref())?;
            Ok(raw(&config, body)?)
        }
        Frame::Json { head, binary } => {
            let deepest = engine.limits().json_depth;
            offload(head.len(), move || decode(&head, &binary, deepest)).await
        }
    }
}

async fn write(headers: &HeaderMap, answer: Answer) -> Result<Response, Failure> {
    let Answer { body, json_length } = answer;
    let coding = Coding::wanted(headers).filter(|_| body.len() >= SMALL);
    let body = match coding {
        None => body,
        Some(coding) => offload(body.len(), move || Ok(compression::pack(coding, &body).into())).await?,
    };
    let content_type = if json_length.is_some() {
        "application/octet-stream"
    } else {
        "application/json"
    };
    let mut response = respond::bytes(StatusCode::OK, content_type, body);
    let headers = response.headers_mut();
    if let Some(length) = json_length {
        headers.insert(JSON_LENGTH, HeaderValue::from(length));
    }
    if let Some(coding) = coding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    Ok(response)
}
