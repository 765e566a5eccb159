//! Calls to the API server: each has a name, an end, and a count when it fails.

use std::time::Duration;

use crate::metrics::Metrics;

/// How long any call but a watch may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A call that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No answer in time.
    #[error("{verb} {object}: the API server did not answer within {} s", LIMIT.as_secs())]
    Late {
        /// The verb, as RBAC spells it.
        verb: &'static str,
        /// `Kind namespace/name`.
        object: String,
    },
    /// The API server said no, or could not be reached.
    #[error("{verb} {object}: {}", sentence(source))]
    Refused {
        /// The verb, as RBAC spells it.
        verb: &'static str,
        /// `Kind namespace/name`.
        object: String,
        /// What it said.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Error {
    /// The HTTP status, where there was an answer.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Late { .. } => None,
        }
    }

    /// How long the API server asks to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let Self::Refused { source, .. } = self else {
            return None;
        };
        let kube::Error::Api(status) = &**source else {
            return None;
        };
        let seconds = status.details.as_ref()?.retry_after_seconds;
        // Capped: a confused proxy must not silence the operator for an hour.
        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds.min(300))))
    }

    /// Whether the API server is in trouble, overloaded or out of reach: the next call would fare no better.
    pub(crate) fn is_the_servers(&self) -> bool {
        self.retry_after().is_some() || self.code().is_none_or(|code| code == 429 || code >= 500)
    }

    /// Whether it is sure that nothing was done. A call without an answer may have been carried out, and one whose answer is
    /// an error of the store behind the API server as well.
    pub(crate) fn is_a_no(&self) -> bool {
        self.code().is_some_and(|code| code < 500 || code == 503)
    }
}

/// What the API server said, without kube's debug print of the whole answer.
fn sentence(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !text.contains(&cause_text) {
                    text = format!("{text}: {cause_text}");
                }
                source = cause.source();
            }
            text
        }
    }
}

/// Makes a call; `object` is `Kind namespace/name`.
pub(crate) async fn call<T>(
    metrics: &Metrics,
    verb: &'static str,
    object: impl Into<String>,
    future: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    call_within(LIMIT, metrics, verb, object, future).await
}

async fn call_within<T>(
    limit: Duration,
    metrics: &Metrics,
    verb: &'static str,
    object: impl Into<String>,
    future: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    let result = match tokio::time::timeout(limit, future).await {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(source)) => Error::Refused {
            verb,
            object: object.into(),
            source: Box::new(source),
        },
        Err(_) => Error::Late {
            verb,
            object: object.into(),
        },
    };
    metrics.api_error(verb);
    Err(result)
}

/// The same, where "it is not there" is an answer and not an error.
pub(crate) async fn call_opt<T>(
    metrics: &Metrics,
    verb: &'static str,
    object: impl Into<String>,
    future: impl Future<Output = kube::Result<T>>,
) -> Result<Option<T>, Error> {
    let object = object.into();
    let absent_is_fine = async {
        match future.await {
            Ok(value) => Ok(Some(value)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    };
    call(metrics, verb, object, absent_is_fine).await
}

#[cfg(test)]
mod tests {
    use kube::core::response::{Status, StatusDetails};

    use super::*;

    fn refused(code: u16, retry: u32) -> kube::Error {
        kube::Error::Api(Box::new(Status {
            code,
            message: "too many requests".to_owned(),
            details: Some(StatusDetails {
                name: String::new(),
                group: String::new(),
                kind: String::new(),
                uid: String::new(),
                causes: vec![],
                retry_after_seconds: retry,
            }),
            ..Status::default()
        }))
    }

    #[tokio::test]
    async fn an_error_names_verb_and_object_and_is_counted() {
        let metrics = Metrics::new();
        let error = call::<()>(&metrics, "list", "Node", async { Err(refused(429, 7)) })
            .await
            .expect_err("the call failed");
        assert_eq!(error.to_string(), "list Node: too many requests");
        assert_eq!(error.code(), Some(429));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert!(
            metrics
                .render()
                .contains(r#"afterglow_operator_api_errors_total{verb="list"} 1"#)
        );
    }

    #[test]
    fn a_refusal_is_told_from_an_api_server_in_trouble() {
        let error = |code, retry| Error::Refused {
            verb: "create",
            object: "ModelReplica n/r".to_owned(),
            source: Box::new(refused(code, retry)),
        };
        let late = Error::Late {
            verb: "create",
            object: "ModelReplica n/r".to_owned(),
        };
        for (error, is_the_servers, is_a_no) in [
            (error(403, 0), false, true),
            (error(409, 0), false, true),
            (error(429, 0), true, true),
            (error(403, 3), true, true),
            (error(503, 0), true, true),
            (error(500, 0), true, false),
            (error(504, 0), true, false),
            (late, true, false),
        ] {
            assert_eq!(
                (error.is_the_servers(), error.is_a_no()),
                (is_the_servers, is_a_no),
                "{error:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_call_that_never_answers_ends_by_itself() {
        let metrics = Metrics::new();
        let error = call_within::<()>(
            Duration::ZERO,
            &metrics,
            "get",
            "Lease n/l",
            std::future::pending(),
        )
        .await
        .expect_err("nobody answered");
        assert_eq!(
            error.to_string(),
            "get Lease n/l: the API server did not answer within 10 s"
        );
    }

    #[tokio::test]
    async fn an_absent_object_is_an_answer() {
        let metrics = Metrics::new();
        let answer = call_opt::<()>(&metrics, "get", "Lease n/l", async { Err(refused(404, 0)) }).await;
        assert!(matches!(answer, Ok(None)), "{answer:?}");
    }
}
