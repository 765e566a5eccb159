//! The model repository: index, load, unload.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::Engine;
use crate::api::{Error, Kind, Result};
use crate::wire::json::{Kind as JsonKind, Reader};
use crate::wire::oip::parameters::{self, Value};
use crate::wire::oip::server as description;

use super::target::Target;
use super::{Failure, body, respond};

pub(super) async fn index(
    State(engine): State<Engine>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let limits = engine.limits();
    let body = body::read(&headers, body, limits).await?;
    let ready = read_index(&body, limits.json_depth)?;
    Ok(respond::json(
        StatusCode::OK,
        &description::index_json(&engine.index(ready)),
    ))
}

pub(super) async fn load(
    State(engine): State<Engine>,
    target: Target,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let limits = engine.limits();
    let body = body::read(&headers, body, limits).await?;
    let Load { config, files } = read_load(&body, limits.json_depth)?;
    engine.load(&target.model, config, files).await?;
    Ok(respond::empty())
}

pub(super) async fn unload(
    State(engine): State<Engine>,
    target: Target,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let limits = engine.limits();
    let body = body::read(&headers, body, limits).await?;
    // `unload_dependents` is checked and has no effect: no model here depends on another.
    for (key, value) in read_parameters(&body, limits.json_depth)? {
        match key.as_str() {
            "unload_dependents" => {
                parameters::bool(&key, &value)?;
            }
            _ => return Err(Error::invalid(format!("unload: unknown parameter `{key}`")).into()),
        }
    }
    engine.unload(&target.model).await?;
    Ok(respond::empty())
}

/// There is one repository, and it has no name.
pub(super) async fn named() -> Failure {
    Error::new(
        Kind::Unimplemented,
        "repositories have no names here; leave the name out of the path",
    )
    .into()
}

/// What a load request brings along.
#[derive(Debug, Clone, Default, PartialEq)]
struct Load {
    /// `parameters.config`, parsed.
    config: Option<serde_json::Value>,
    /// `file:VERSION/NAME` entries.
    files: Vec<(String, Bytes)>,
}

/// Parses the `config` parameter of a load: JSON inside a string.
pub(in crate::wire) fn parse_config(text: &str, deepest: usize) -> Result<serde_json::Value> {
    let mut reader = Reader::new(text.as_bytes(), deepest);
    let wrong = |error: &dyn std::fmt::Display| Error::invalid(format!("load: parameter `config`: {error}"));
    reader
        .skip()
        .and_then(|()| reader.end())
        .map_err(|error| wrong(&error))?;
    serde_json::from_str(text).map_err(|error| wrong(&error))
}

fn read_load(body: &[u8], deepest: usize) -> Result<Load> {
    let mut load = Load::default();
    for (key, value) in read_parameters(body, deepest)? {
        match (key.strip_prefix("file:"), value) {
            (Some(path), Value::String(text)) => {
                let bytes = BASE64_STANDARD.decode(&text).map_err(|error| {
                    Error::invalid(format!("load: parameter `{key}` is not base64: {error}"))
                })?;
                load.files.push((path.to_owned(), bytes.into()));
            }
            (None, Value::String(text)) if key == "config" => {
                load.config = Some(parse_config(&text, deepest)?);
            }
            (Some(_), _) => return Err(Error::invalid(format!("load: parameter `{key}` must be base64"))),
            (None, _) if key == "config" => {
                return Err(Error::invalid(
                    "load: parameter `config` must be JSON inside a string",
                ));
            }
            (None, _) => return Err(Error::invalid(format!("load: unknown parameter `{key}`"))),
        }
    }
    Ok(load)
}

/// An index request: empty, or an object that may say `ready`.
fn read_index(body: &[u8], deepest: usize) -> Result<bool> {
    let mut ready = false;
    optional_object(body, deepest, |reader, key| {
        if key == "ready" {
            ready = reader.bool()?;
            Ok(())
        } else {
            reader.skip()
        }
    })?;
    Ok(ready)
}

fn read_parameters(body: &[u8], deepest: usize) -> Result<Vec<(String, Value)>> {
    let mut found = Vec::new();
    optional_object(body, deepest, |reader, key| {
        if key == "parameters" {
            if reader.peek()? == JsonKind::Null {
                return reader.null();
            }
            found = parameters::read(reader)?;
            Ok(())
        } else {
            reader.skip()
        }
    })?;
    Ok(found)
}

fn optional_object(
    body: &[u8],
    deepest: usize,
    mut member: impl FnMut(&mut Reader<'_>, &str) -> Result<()>,
) -> Result<()> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let mut reader = Reader::new(body, deepest);
    reader.object(|reader, key| member(reader, &key))?;
    reader.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_is_understood() {
        assert!(!read_index(b"", 100).unwrap());
        assert!(!read_index(b"{}", 100).unwrap());
        assert!(read_index(br#"{"ready": true}"#, 100).unwrap());
        assert_eq!(read_load(b"{}", 100).unwrap(), Load::default());
        let load = read_load(
            br#"{"parameters": {"config": "{\"max_batch_size\": 4}", "file:1/model.onnx": "AAE="}}"#,
            100,
        )
        .unwrap();
        assert_eq!(load.config.unwrap()["max_batch_size"], 4);
        assert_eq!(
            load.files,
            [("1/model.onnx".to_owned(), Bytes::from_static(&[0, 1]))]
        );
    }

    #[test]
    fn loads_that_are_wrong_are_refused() {
        let deep = format!(r#"{{"parameters": {{"config": "{}"}}}}"#, "[".repeat(101));
        for text in [
            "[]",
            "{",
            r#"{"parameters": {"config": {}}}"#,
            r#"{"parameters": {"config": 1}}"#,
            r#"{"parameters": {"config": "{"}}"#,
            r#"{"parameters": {"file:1/x": "*"}}"#,
            r#"{"parameters": {"file:1/x": true}}"#,
            r#"{"parameters": {"surprise": true}}"#,
            deep.as_str(),
        ] {
            assert!(read_load(text.as_bytes(), 100).is_err(), "{text}");
        }
    }
}
