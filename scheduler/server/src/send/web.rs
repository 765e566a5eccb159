//! REST towards engines: bodies as the bytes they are, pooled connections. Whether the engine is there, its
//! [`Link`](super::link::Link) knows: pooled connections do not ask.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::dial::connector;
use super::link::Link;
use super::{Links, Outcome, causes};
use crate::fleet::Replica;

/// Engines close a connection that is idle for 75 s; ours goes first.
const IDLE: Duration = Duration::from_secs(30);
/// An answer of no more bytes is read before the client sees its head: if it breaks off, another replica can still be asked.
const SHORT: u64 = 256 << 10;
/// Errors are read, to put the client's name for the model into them; they are short.
const LONGEST_ERROR: usize = 64 << 10;

/// What goes to an engine.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    /// Path and query on the engine.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What a 404 means: that the engine does not have the model any more, or just what it says.
    pub(crate) not_found: NotFound,
}

/// What a 404 means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotFound {
    /// The model is not there (any more): another replica is asked.
    Gone,
    /// It is the answer.
    Answer,
}

/// What came back.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A success, whose body is still coming, as long as the engine is there.
    Stream(Response<Incoming>, Link),
    /// A success, read to its end.
    Whole(Response<Bytes>),
    /// An error, read to its end.
    Error(Response<Bytes>),
}

/// A client with its connections.
#[derive(Debug, Clone)]
pub(crate) struct Web {
    client: Client<HttpConnector, Full<Bytes>>,
    links: Arc<Links>,
}

impl Web {
    pub(crate) fn new(links: Arc<Links>) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector());
        Self { client, links }
    }
}

impl Web {
    /// One request.
    pub(crate) async fn call(&self, replica: &Replica, outgoing: Outgoing) -> Outcome<Answer> {
        let link = match self.links.to(&replica.grpc).await {
            Ok(link) if link.lost.is_cancelled() => {
                return Outcome::Unsent("the engine is not there any more".to_owned());
            }
            Ok(link) => link,
            Err(error) => return Outcome::Unsent(error),
        };
        let lost = link.lost.clone();
        tokio::select! {
            outcome = self.exchange(replica, outgoing, link) => outcome,
            () = lost.cancelled() => Outcome::Broken("the engine is not there any more".to_owned()),
        }
    }

    async fn exchange(&self, replica: &Replica, outgoing: Outgoing, link: Link) -> Outcome<Answer> {
        let not_found = outgoing.not_found;
        let uri = format!("http://{}{}", replica.http, outgoing.path);
        let request = Request::builder()
            .method(outgoing.method)
            .uri(&uri)
            .body(Full::new(outgoing.body));
        let mut request = match request {
            Ok(request) => request,
            Err(error) => return Outcome::Unsent(format!("{uri}: {error}")),
        };
        *request.headers_mut() = outgoing.headers;
        afterglow_telemetry::inject(request.headers_mut());
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Outcome::Unsent(causes(&error)),
            Err(error) => return Outcome::Broken(causes(&error)),
        };
        let (parts, body) = response.into_parts();
        if !parts.status.is_client_error() && !parts.status.is_server_error() {
            if body.size_hint().exact().is_none_or(|bytes| bytes > SHORT) {
                return Outcome::Answered(Answer::Stream(Response::from_parts(parts, body), link));
            }
            return match body.collect().await {
                Ok(body) => Outcome::Answered(Answer::Whole(Response::from_parts(parts, body.to_bytes()))),
                Err(error) => Outcome::Broken(causes(&error)),
            };
        }
        let body = match Limited::new(body, LONGEST_ERROR).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Outcome::Broken(error.to_string()),
        };
        let status = parts.status;
        let answer = Answer::Error(Response::from_parts(parts, body));
        match status {
            StatusCode::SERVICE_UNAVAILABLE => Outcome::Busy(answer),
            StatusCode::NOT_FOUND if not_found == NotFound::Gone => Outcome::Missing,
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY => Outcome::Fault(answer),
            _ => Outcome::Refused(answer),
        }
    }
}

/// Headers that belong to one connection.
const HOP_BY_HOP: [header::HeaderName; 8] = [
    header::CONNECTION,
    header::HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What of a client's headers an engine gets: all but those of the connection, those for us, and secrets.
pub(crate) fn towards_engine(headers: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let ours = name.as_str().starts_with("x-afterglow-");
        let framing = [header::HOST, header::CONTENT_LENGTH, header::EXPECT].contains(name);
        let secret = [header::AUTHORIZATION, header::COOKIE].contains(name);
        if !(ours || framing || secret || HOP_BY_HOP.contains(name)) {
            passed.append(name.clone(), value.clone());
        }
    }
    passed
}

/// What of an engine's headers a client gets.
pub(crate) fn towards_client(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_gets_what_concerns_it() {
        let mut headers = HeaderMap::new();
        for name in [
            "inference-header-content-length",
            "content-encoding",
            "accept-encoding",
            "traceparent",
            "host",
            "content-length",
            "connection",
            "transfer-encoding",
            "expect",
            "authorization",
            "x-afterglow-namespace",
        ] {
            headers.insert(name, "1".parse().unwrap());
        }
        let passed = towards_engine(&headers);
        let mut names: Vec<_> = passed.keys().map(header::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept-encoding",
                "content-encoding",
                "inference-header-content-length",
                "traceparent"
            ]
        );
    }
}
