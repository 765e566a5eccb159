//! A reverse proxy between one operator and the API server: it records what is asked and does what its rules say.
//!
//! The operator speaks plain HTTP to it; it goes on in the name of the operator's service account, so that its rights are the
//! chart's. An operator that says itself who it is, with a token, is passed on as it is.

mod call;
mod record;
mod relay;
mod rule;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

pub use call::{Call, Verb};
pub use record::{Counts, Entry, Record};
use relay::Answer;
pub use rule::{Rule, What};

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: AbortHandle,
}

/// What its connections share.
#[derive(Debug)]
struct Shared {
    upstream: Upstream,
    world: String,
    record: Record,
    rules: Mutex<Vec<Rule>>,
    /// Connections that were opened before this one are dead, and nobody has been told.
    frozen_below: watch::Sender<u64>,
    /// Grows whenever all watches break.
    cuts: watch::Sender<u64>,
    connections: AtomicU64,
}

/// The API server in the operator's name.
struct Upstream(Client);

impl std::fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Upstream")
    }
}

impl Proxy {
    /// Starts one for an operator of a world.
    pub async fn start(upstream: Client, world: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("listen for the operator")?;
        let address = listener.local_addr().context("read the proxy's address")?;
        let shared = Arc::new(Shared {
            upstream: Upstream(upstream),
            world: world.to_owned(),
            record: Record::default(),
            rules: Mutex::default(),
            frozen_below: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
            connections: AtomicU64::new(0),
        });
        let listening = tokio::spawn(listen(listener, shared.clone())).abort_handle();
        Ok(Self {
            address,
            shared,
            listening,
        })
    }

    /// Where the operator finds it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked.
    pub fn record(&self) -> &Record {
        &self.shared.record
    }

    /// Puts a rule into force; the newest comes first.
    pub fn rule(&self, rule: Rule) -> Rule {
        let mut rules = self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.retain(|rule| !rule.is_lifted());
        rules.insert(0, rule.clone());
        rule
    }

    /// From now on every connection that there is stays silent for ever, and nobody is told. New ones work.
    pub fn freeze(&self) {
        let next = self.shared.connections.load(Ordering::SeqCst);
        self.shared.frozen_below.send_replace(next);
    }

    /// Until [`What::Halt`] has come to its end: the write is done, and nobody was told.
    pub async fn halted(&self) {
        self.shared.frozen(u64::MAX - 1).await;
    }

    /// After [`What::Halt`]: whoever dials now is served again.
    pub fn revive(&self) {
        self.freeze();
    }

    /// All watches break.
    pub fn cut_watches(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    // With the listener, its connections end.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(serve(stream, number, shared.clone()));
    }
}

async fn serve(stream: TcpStream, number: u64, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request| answer(request, number, shared.clone()));
    // An error here is a connection that was broken on purpose, or left by the operator.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// The connection breaks without an answer.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the connection was broken on purpose")
    }
}

impl std::error::Error for Broken {}

async fn answer(
    request: Request<Incoming>,
    connection: u64,
    shared: Arc<Shared>,
) -> Result<Response<Answer>, Broken> {
    tokio::select! {
        biased;
        // Nothing comes, and nothing ends.
        () = shared.frozen(connection) => std::future::pending().await,
        answer = ask(request, connection, shared.clone()) => answer,
    }
}

async fn ask(
    request: Request<Incoming>,
    connection: u64,
    shared: Arc<Shared>,
) -> Result<Response<Answer>, Broken> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
    let content = head
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let path = head.uri.path().to_owned();
    let query = head.uri.query().unwrap_or_default();
    let mut call = Call::read(head.method.as_str(), &path, query, content, &body);
    call.is_ours = call.names(&shared.world);
    let open = shared.record.begin(call.clone());
    let rule = shared.strike(&call);
    let what = rule.as_ref().map(Rule::what);

    let mut uri = head
        .uri
        .path_and_query()
        .map_or_else(String::new, ToString::to_string);
    match what {
        Some(What::Refuse(code, wait)) => return refusal(code, wait),
        Some(What::Rewind) => uri = rewound(&uri),
        _ => {}
    }
    let mut onward = Request::builder().method(head.method).uri(uri);
    for name in [CONTENT_TYPE, ACCEPT, AUTHORIZATION] {
        if let Some(value) = head.headers.get(&name) {
            onward = onward.header(name, value);
        }
    }
    let onward = onward.body(Body::from(body)).map_err(|_| Broken)?;
    let late = rule.filter(|_| matches!(what, Some(What::Delay)));
    let (upstream, heard) = (shared.clone(), open.ear());
    // In a task of its own: what was sent on is carried out and counted, though the operator has given up or is dead.
    let sent = tokio::spawn(async move {
        if let Some(rule) = late {
            rule.lifted().await;
        }
        let answer = upstream.upstream.0.send(onward).await;
        if let Ok(answer) = &answer {
            heard(answer.status().as_u16());
        }
        answer
    });
    let answer = sent.await.map_err(|_| Broken)?.map_err(|_| Broken)?;
    match what {
        Some(What::CutReply) => {
            drain(answer).await;
            return Err(Broken);
        }
        Some(What::Halt) => {
            drain(answer).await;
            shared.frozen_below.send_replace(u64::MAX);
            return std::future::pending().await;
        }
        _ => {}
    }
    let (head, body) = answer.into_parts();
    if call.verb == Verb::Watch && head.status.is_success() {
        let mut answer = Response::new(relay::watch(body, call, connection, shared));
        copy_type(&head.headers, &mut answer);
        return Ok(answer);
    }
    let bytes = body.collect().await.map_err(|_| Broken)?.to_bytes();
    let mut answer = whole(head.status, bytes);
    copy_type(&head.headers, &mut answer);
    if let Some(wait) = head.headers.get(RETRY_AFTER) {
        answer.headers_mut().insert(RETRY_AFTER, wait.clone());
    }
    Ok(answer)
}

impl Shared {
    /// Until a connection is dead.
    async fn frozen(&self, connection: u64) {
        let mut below = self.frozen_below.subscribe();
        // The sender lives as long as this.
        let _ = below.wait_for(|below| connection < *below).await;
    }

    /// The first rule in force that strikes this request.
    fn strike(&self, call: &Call) -> Option<Rule> {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules
            .iter()
            .find(|rule| !rule.what().is_of_events() && rule.strikes(call))
            .cloned()
    }

    /// The first rule in force that strikes this event of a watch.
    fn strike_event(&self, call: &Call, line: &[u8]) -> Option<Rule> {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rules = rules.iter().filter(|rule| rule.what().is_of_events()).peekable();
        rules.peek()?;
        let event = Some(String::from_utf8_lossy(line).into_owned());
        let call = Call {
            event,
            ..call.clone()
        };
        rules.find(|rule| rule.strikes(&call)).cloned()
    }
}

async fn drain(answer: Response<Body>) {
    // Only that it has come counts.
    let _ = answer.into_body().collect().await;
}

/// A refusal as the API server puts it.
fn refusal(code: u16, wait: Option<u32>) -> Result<Response<Answer>, Broken> {
    let reason = match code {
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        403 => "Forbidden",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": format!("refused on purpose with {code}"),
        "details": { "retryAfterSeconds": wait.unwrap_or(0) },
    });
    let code = StatusCode::from_u16(code).map_err(|_| Broken)?;
    let mut answer = json(code, Bytes::from(status.to_string()));
    if let Some(wait) = wait {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait));
    }
    Ok(answer)
}

fn json(code: StatusCode, body: Bytes) -> Response<Answer> {
    let mut answer = whole(code, body);
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn whole(code: StatusCode, body: Bytes) -> Response<Answer> {
    let mut answer = Response::new(
        Full::new(body)
            .map_err(|never: Infallible| match never {})
            .boxed_unsync(),
    );
    *answer.status_mut() = code;
    answer
}

fn copy_type(from: &hyper::HeaderMap, to: &mut Response<Answer>) {
    if let Some(value) = from.get(CONTENT_TYPE) {
        to.headers_mut().insert(CONTENT_TYPE, value.clone());
    }
}

/// The same watch, from the beginning of time.
fn rewound(uri: &str) -> String {
    let words = uri.split('&').map(|word| {
        let key = word.split('=').next().unwrap_or_default();
        if key == "resourceVersion" {
            "resourceVersion=1"
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewound_watch_differs_in_its_beginning_only() {
        let uri = "/apis/a/v1/b?&watch=true&resourceVersion=812&allowWatchBookmarks=true";
        assert_eq!(
            rewound(uri),
            "/apis/a/v1/b?&watch=true&resourceVersion=1&allowWatchBookmarks=true"
        );
    }
}
