//! The protocols: Open Inference Protocol over gRPC and REST, OpenAI's embeddings, Prometheus.

mod counted;
pub(crate) mod grpc;
mod index;
pub(crate) mod rest;

use http::HeaderMap;

/// Requests with the same value go to the same replica.
const SESSION: &str = "x-afterglow-session";
/// `1`: the answer says who gave it and why.
const EXPLAIN: &str = "x-afterglow-explain";
/// The replica that answered, on demand.
const REPLICA: &str = "x-afterglow-replica";
/// Why that one, on demand.
const BECAUSE: &str = "x-afterglow-because";

/// What headers (or metadata) say about routing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Hints {
    namespace: Option<String>,
    session: Option<String>,
    explain: bool,
}

impl Hints {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            (!value.is_empty()).then(|| value.to_owned())
        };
        Self {
            namespace: text(crate::namespace::HEADER),
            session: text(SESSION),
            explain: headers.get(EXPLAIN).is_some_and(|value| value == "1"),
        }
    }
}

/// A value that may stand in a header: reasons are our own words, yet names in them are not.
fn header_value(text: &str) -> http::HeaderValue {
    let plain: String = text
        .chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect();
    http::HeaderValue::from_str(&plain).unwrap_or_else(|_| http::HeaderValue::from_static("?"))
}
