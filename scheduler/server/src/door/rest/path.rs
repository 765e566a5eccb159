//! What a request says about routing: path, headers, host.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRequestParts, RawPathParams};
use http::HeaderMap;
use http::header;
use http::request::Parts;

use super::answer::Failure;
use crate::door::Hints;
use crate::refusal::Refusal;
use crate::send::Scheduler;
use crate::snapshot::Call;

/// Namespace, model and version that a request is for.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) namespace: String,
    /// From the path, percent-decoded; empty where the path has none.
    pub(super) model: String,
    pub(super) version: Option<String>,
    pub(super) hints: Hints,
    pub(super) headers: HeaderMap,
    arrival: Instant,
    deadline: Instant,
}

impl FromRequestParts<Arc<Scheduler>> for Target {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, scheduler: &Arc<Scheduler>) -> Result<Self, Failure> {
        let arrival = Instant::now();
        let parameters = RawPathParams::from_request_parts(parts, scheduler)
            .await
            .map_err(|_| Refusal::invalid("the path is not UTF-8 after percent-decoding"))?;
        let find = |wanted| {
            parameters
                .iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| value.to_owned())
        };
        let hints = Hints::of(&parts.headers);
        let host = parts
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let host = parts.uri.host().or(host);
        Ok(Self {
            namespace: scheduler.namespace(hints.namespace.as_deref(), host),
            model: find("model").unwrap_or_default(),
            version: find("version"),
            hints,
            headers: parts.headers.clone(),
            arrival,
            deadline: arrival + scheduler.limits.deadline,
        })
    }
}

impl Target {
    pub(super) fn call(&self) -> Call {
        Call {
            namespace: self.namespace.clone(),
            model: self.model.clone(),
            version: self.version.clone(),
            session: self.hints.session.clone(),
            bytes: 0,
            inference: false,
            arrival: self.arrival,
            deadline: self.deadline,
        }
    }
}
