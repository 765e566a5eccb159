//! `POST /v1/embeddings`.

use std::io::Write as _;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, StatusCode};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug_span};

use crate::Engine;
use crate::api::Embeddings;
use crate::wire::{json, rest};

use super::Refusal;
use super::request::{self, Format, Request};

pub(super) async fn create(
    State(engine): State<Engine>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    // The server drops this future when the client goes away; the engine then hears of it.
    let cancel = CancellationToken::new();
    let _gone = cancel.clone().drop_guard();
    let limits = engine.limits();
    let (deepest, most) = (limits.json_depth, limits.embedding_inputs);
    let decoding = async {
        let body = rest::read(&headers, body, limits).await?;
        rest::offload(body.len(), move || request::read(&body, deepest, most)).await
    };
    let Request {
        model,
        inputs,
        format,
        dimensions,
    } = decoding.instrument(debug_span!("decode")).await?;
    let embeddings = engine.embed(&model, inputs, dimensions, None, cancel).await?;
    let size = embeddings.vectors.iter().map(Vec::len).sum();
    let answer = rest::offload(size, move || Ok(write(&embeddings, format)))
        .instrument(debug_span!("encode"))
        .await?;
    Ok(rest::bytes(StatusCode::OK, "application/json", answer))
}

fn write(embeddings: &Embeddings, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(br#"{"object":"list","data":["#);
    for (index, vector) in embeddings.vectors.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        append(
            &mut out,
            format_args!(r#"{{"object":"embedding","index":{index},"embedding":"#),
        );
        match format {
            Format::Float => {
                out.push(b'[');
                for (index, value) in vector.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    json::float32(&mut out, *value);
                }
                out.push(b']');
            }
            Format::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                append(&mut out, format_args!("\"{}\"", BASE64_STANDARD.encode(bytes)));
            }
        }
        out.push(b'}');
    }
    out.extend_from_slice(br#"],"model":"#);
    json::string(&mut out, &embeddings.model);
    let tokens = embeddings.prompt_tokens;
    append(
        &mut out,
        format_args!(r#","usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#),
    );
    out
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_carry_the_same_vectors() {
        let embeddings = Embeddings {
            model: "m".into(),
            version: "1".into(),
            vectors: vec![vec![0.5, -1.0], vec![0.1, 2.0]],
            prompt_tokens: 7,
        };
        let parse =
            |format| -> serde_json::Value { serde_json::from_slice(&write(&embeddings, format)).unwrap() };
        let float = parse(Format::Float);
        assert_eq!(float["model"], "m");
        assert_eq!(float["data"][0]["embedding"], serde_json::json!([0.5, -1.0]));
        assert_eq!(float["data"][1]["index"], 1);
        assert_eq!(
            float["usage"],
            serde_json::json!({"prompt_tokens": 7, "total_tokens": 7})
        );
        let packed = parse(Format::Base64);
        let bytes = BASE64_STANDARD
            .decode(packed["data"][1]["embedding"].as_str().unwrap())
            .unwrap();
        assert_eq!(bytes, [0.1_f32.to_le_bytes(), 2.0_f32.to_le_bytes()].concat());
    }
}
