//! Calls to the API server, all of which end.

use std::time::Duration;

/// A call that has not come back by then never will.
pub const CALL: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// A call to the API server that went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It did not come back.
    #[error("{what}: no answer from the API server in {} s", CALL.as_secs())]
    Silent {
        /// What was being done, to what.
        what: String,
    },
    /// What it was meant for is not there any more.
    #[error("{what}: it was deleted meanwhile")]
    Gone {
        /// What was being done, to what.
        what: String,
    },
    /// It was refused, or failed.
    #[error("{what}: {source}")]
    Failed {
        /// What was being done, to what.
        what: String,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
}

impl ApiError {
    /// The HTTP status, where the API server gave one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Failed { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Silent { .. } | Self::Gone { .. } => None,
        }
    }
}

/// A call with an end. `what` names the operation and its object: `read Node rig-1`.
pub async fn call<T>(
    what: impl Into<String>,
    future: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(CALL, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(ApiError::Failed {
            what: what.into(),
            source: Box::new(source),
        }),
        Err(_) => Err(ApiError::Silent { what: what.into() }),
    }
}

/// As [`call`], where an object that is not there is an answer.
pub async fn find<T>(
    what: impl Into<String>,
    future: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Option<T>, ApiError> {
    match call(what, future).await {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}
