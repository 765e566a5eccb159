//! Which model a path means.

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;

use crate::api::Error;

use super::Failure;

/// Model and, where the path says one, version; percent-decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) model: String,
    pub(super) version: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let parameters = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Error::invalid("the path is not UTF-8 after percent-decoding"))?;
        let find = |wanted| {
            parameters
                .iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| value.to_owned())
        };
        let model = find("model").ok_or_else(Failure::no_path)?;
        Ok(Self {
            model,
            version: find("version"),
        })
    }
}
