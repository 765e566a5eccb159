//! What is asked beside inferences: about the server (answered here) and about models (asked of a replica).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::answer::{self, Failure};
use super::body;
use super::forward::forward;
use super::path::Target;
use crate::door::{grpc, index};
use crate::refusal::{Kind, Refusal};
use crate::send::Scheduler;
use crate::send::web::{NotFound, Outgoing, towards_engine};
use crate::snapshot;

/// Answers about a model are short; one that is not does not come from an engine.
const LONGEST: usize = 4 << 20;

pub(super) async fn server() -> Response {
    let about = json!({"name": index::NAME, "version": index::VERSION, "extensions": index::EXTENSIONS});
    answer::json(StatusCode::OK, &about)
}

pub(super) async fn live() -> Response {
    answer::json(StatusCode::OK, &json!({"live": true}))
}

pub(super) async fn server_ready(State(scheduler): State<Arc<Scheduler>>) -> Response {
    let ready = scheduler.ready();
    answer::json(readiness(ready), &json!({"ready": ready}))
}

/// From the fleet: a replica is Ready when its engine answers for it.
pub(super) async fn ready(
    State(scheduler): State<Arc<Scheduler>>,
    target: Target,
) -> Result<Response, Failure> {
    let ready = match snapshot::ready(&scheduler.view(), &target.call()) {
        Ok(_) => true,
        Err(refusal) if refusal.kind == Kind::Unavailable => false,
        Err(refusal) => return Err(refusal.into()),
    };
    let about = json!({"name": target.model, "ready": ready});
    Ok(answer::json(readiness(ready), &about))
}

fn readiness(ready: bool) -> StatusCode {
    if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

pub(super) async fn metadata(
    State(scheduler): State<Arc<Scheduler>>,
    target: Target,
) -> Result<Response, Failure> {
    let versions = index::versions(&scheduler.view(), &target.call());
    about(&scheduler, &target, "", |value| {
        value["versions"] = json!(versions);
    })
    .await
}

pub(super) async fn config(
    State(scheduler): State<Arc<Scheduler>>,
    target: Target,
) -> Result<Response, Failure> {
    about(&scheduler, &target, "/config", |_| {}).await
}

/// Asks a replica about its model, and puts the client's name for it into the answer.
async fn about(
    scheduler: &Scheduler,
    target: &Target,
    what: &str,
    change: impl FnOnce(&mut Value),
) -> Result<Response, Failure> {
    let mut headers = towards_engine(&target.headers);
    headers.remove(http::header::ACCEPT_ENCODING);
    let response = forward(scheduler, target, &target.call(), None, |replica| Outgoing {
        method: Method::GET,
        path: match &target.version {
            Some(version) => format!("/v2/models/{}/versions/{version}{what}", replica.engine_model),
            None => format!("/v2/models/{}{what}", replica.engine_model),
        },
        headers: headers.clone(),
        body: Bytes::new(),
        not_found: NotFound::Gone,
    })
    .await?;
    if !response.status().is_success() {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    let read = http_body_util::Limited::new(body, LONGEST).collect();
    let body = read
        .await
        .map_err(|error| Refusal::unavailable(format!("the engine's answer broke off: {error}")))?;
    let mut value: Value = serde_json::from_slice(&body.to_bytes()).map_err(|error| {
        Refusal::new(
            Kind::Internal,
            format!("the engine's answer is not JSON: {error}"),
        )
    })?;
    value["name"] = json!(target.model);
    change(&mut value);
    let text = value.to_string();
    parts
        .headers
        .insert(http::header::CONTENT_LENGTH, text.len().into());
    Ok(Response::from_parts(parts, Body::from(text)))
}

pub(super) async fn statistics(
    State(scheduler): State<Arc<Scheduler>>,
    target: Target,
) -> Result<Response, Failure> {
    let statistics = grpc::statistics(&scheduler, &target.call()).await?;
    Ok(answer::json(StatusCode::OK, &grpc::statistics_json(&statistics)))
}

pub(super) async fn all_statistics(
    State(scheduler): State<Arc<Scheduler>>,
    target: Target,
) -> Result<Response, Failure> {
    statistics(State(scheduler), target).await
}

pub(super) async fn index(
    State(scheduler): State<Arc<Scheduler>>,
    target: Target,
    body: Body,
) -> Result<Response, Failure> {
    let (_room, body) = body::admit(&scheduler.admission, body).await?;
    let only_ready = wants_ready(&body)?;
    let entries = index::entries(&scheduler.view(), &target.namespace);
    let lines: Vec<Value> = entries
        .into_iter()
        .filter(|entry| entry.ready || !only_ready)
        .map(|entry| {
            let mut line = json!({"name": entry.name, "state": entry.state(), "reason": entry.reason});
            // The version is left out where there is none: clients print it.
            if let Some(version) = entry.version {
                line["version"] = json!(version);
            }
            line
        })
        .collect();
    Ok(answer::json(StatusCode::OK, &json!(lines)))
}

/// An index request: empty, or an object that may say `ready`.
fn wants_ready(body: &[u8]) -> Result<bool, Refusal> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(false);
    }
    let wrong = |what: &dyn std::fmt::Display| Refusal::invalid(format!("index: {what}"));
    let value: Value = serde_json::from_slice(body).map_err(|error| wrong(&error))?;
    match value.as_object().map(|object| object.get("ready")) {
        None => Err(wrong(&"the request must be an object")),
        Some(None) => Ok(false),
        Some(Some(Value::Bool(ready))) => Ok(*ready),
        Some(Some(_)) => Err(wrong(&"`ready` must be true or false")),
    }
}

pub(super) async fn apply() -> Failure {
    Refusal::new(Kind::Unimplemented, index::APPLY).into()
}

pub(super) async fn named() -> Failure {
    Refusal::new(Kind::Unimplemented, index::UNNAMED).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_for_an_index_is_understood() {
        assert!(!wants_ready(b"").unwrap());
        assert!(!wants_ready(b" {} ").unwrap());
        assert!(wants_ready(br#"{"ready": true}"#).unwrap());
        for wrong in ["[]", "{", r#"{"ready": 1}"#] {
            assert!(wants_ready(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
