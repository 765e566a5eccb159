//! One HTTP/2 connection per engine, kept by a task of its own; both doors learn from it whether the engine is there.
//!
//! Requests never dial. They take the connection that is there; while one is being made they wait for it a moment, all of them for
//! the same one; where none can be made they are told so at once and go elsewhere. A connection counts only when the engine has
//! answered a question over it: the kernel accepts connections for a process that is stopped, too.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use afterglow_policy::breaker::{Event, Standing};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::{Service as _, ServiceExt as _};

use super::causes;
use super::dial::{DIAL, connector};
use crate::load::Health;

/// A connection over which nothing came for so long is asked for a sign of life.
const PING: Duration = Duration::from_millis(500);
/// An engine's process that does not answer that for so long is stopped or stuck. Generous: it may only be starved.
const PONG: Duration = Duration::from_secs(3);
/// The first question over a new connection is answered within this.
const FIRST_ANSWER: Duration = PONG;
/// A connection that broke earlier than this is not made again at once.
const SETTLED: Duration = Duration::from_secs(1);
/// The first question. Any answer will do.
const QUESTION: &str = "/inference.GRPCInferenceService/ServerReady";
/// A message of no bytes, as gRPC frames it.
const NOTHING: &[u8] = &[0; 5];

/// Bodies of questions and of requests.
type Outgoing = tonic::body::Body;

/// A connection to an engine; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    send: http2::SendRequest<Outgoing>,
    /// Fires when the connection is lost: not closed in order, but broken or silent.
    pub(crate) lost: CancellationToken,
}

/// Where an engine's connection stands.
#[derive(Debug, Clone)]
enum Stage {
    /// It is being made.
    Dialling,
    /// It is there.
    Up(Link),
    /// It cannot be made, and why; it is tried again.
    Down(Arc<str>),
}

/// An engine as far as connections know it. Its connection is given up when this goes; what is under way over it goes on.
#[derive(Debug)]
pub(crate) struct Engine {
    stage: watch::Receiver<Stage>,
    health: Arc<Health>,
    _end: DropGuard,
}

impl Engine {
    /// Begins to keep a connection to `address`; `news` hears when it is there.
    pub(super) fn keep(address: String, news: Arc<Notify>) -> Self {
        let (sender, stage) = watch::channel(Stage::Dialling);
        let (health, end) = (Arc::new(Health::default()), CancellationToken::new());
        let keeper = Keeper {
            address,
            stage: sender,
            health: health.clone(),
            news,
        };
        tokio::spawn(end.clone().run_until_cancelled_owned(keeper.run()));
        Self {
            stage,
            health,
            _end: end.drop_guard(),
        }
    }

    /// Whether it may be asked.
    pub(crate) fn standing(&self, now: Instant) -> Standing {
        self.health.standing(now)
    }

    /// The connection, or why there is none.
    pub(crate) async fn link(&self) -> Result<Link, String> {
        let mut stage = self.stage.clone();
        let decided = stage.wait_for(|stage| !matches!(stage, Stage::Dialling));
        match tokio::time::timeout(DIAL, decided).await {
            Ok(Ok(stage)) => match &*stage {
                Stage::Up(link) => Ok(link.clone()),
                Stage::Down(why) => Err(why.to_string()),
                Stage::Dialling => Err("it is being connected to".to_owned()),
            },
            Ok(Err(_)) => Err("it has left the fleet".to_owned()),
            Err(_) => Err(format!("no connection within {} ms", DIAL.as_millis())),
        }
    }
}

/// Makes a connection, and makes it again when it is lost.
struct Keeper {
    address: String,
    stage: watch::Sender<Stage>,
    health: Arc<Health>,
    news: Arc<Notify>,
}

impl Keeper {
    async fn run(self) {
        loop {
            let started = Instant::now();
            match dial(&self.address).await {
                Ok((link, ended)) => {
                    self.health.answered(started, Instant::now());
                    self.stage.send_replace(Stage::Up(link));
                    self.news.notify_waiters();
                    // The other end is dropped only with the runtime.
                    let why = ended.await.unwrap_or_default();
                    tracing::debug!(engine = self.address, why, "the connection ended");
                    let now = Instant::now();
                    self.health.learn(Event::Unreachable, now);
                    if now.saturating_duration_since(started) < SETTLED {
                        self.stage.send_replace(Stage::Down(why.into()));
                        tokio::time::sleep(PING).await;
                    }
                    // At once: it may have been this connection alone.
                    self.stage.send_replace(Stage::Dialling);
                }
                Err(why) => {
                    let pause = self.health.learn(Event::Unreachable, Instant::now());
                    let before = self.stage.send_replace(Stage::Down(why.clone().into()));
                    if !matches!(before, Stage::Down(_)) {
                        tracing::warn!(engine = self.address, error = why, "an engine cannot be reached");
                    }
                    tokio::time::sleep(pause.unwrap_or(PING)).await;
                }
            }
        }
    }
}

/// A connection over which the engine has answered, and what will tell how it ended.
async fn dial(address: &str) -> Result<(Link, oneshot::Receiver<String>), String> {
    let uri: Uri = format!("http://{address}")
        .parse()
        .map_err(|error| format!("`{address}` is not an address: {error}"))?;
    let connecting = connector().oneshot(uri.clone());
    // The connector bounds each address; a name may have several.
    let io = tokio::time::timeout(2 * DIAL, connecting).await;
    let io = io
        .map_err(|_| "it does not take a connection".to_owned())?
        .map_err(|error| causes(&error))?;
    let (send, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        .handshake(io)
        .await
        .map_err(|error| causes(&error))?;
    let lost = CancellationToken::new();
    let (told, ended) = oneshot::channel();
    let link = Link {
        send,
        lost: lost.clone(),
    };
    // Not part of the keeper: an engine that leaves the fleet finishes what it was sent.
    tokio::spawn(async move {
        let why = match connection.await {
            Ok(()) => "the engine closed it".to_owned(),
            Err(error) => {
                lost.cancel();
                causes(&error)
            }
        };
        // Nobody listens any more if the engine has left the fleet.
        let _ = told.send(why);
    });
    match tokio::time::timeout(FIRST_ANSWER, ask(link.clone(), &uri)).await {
        Ok(Ok(())) => Ok((link, ended)),
        Ok(Err(error)) => Err(causes(&error)),
        Err(_) => Err(format!("it says nothing for {} s", FIRST_ANSWER.as_secs())),
    }
}

/// Whether the engine answers, whatever.
async fn ask(mut link: Link, uri: &Uri) -> Result<(), Broke> {
    let authority = uri
        .authority()
        .map(http::uri::Authority::as_str)
        .unwrap_or_default();
    let mut request = Request::new(Outgoing::new(Full::new(Bytes::from_static(NOTHING))));
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    if let Ok(uri) = format!("http://{authority}{QUESTION}").parse() {
        *request.uri_mut() = uri;
    }
    let headers = request.headers_mut();
    headers.insert(http::header::TE, http::HeaderValue::from_static("trailers"));
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/grpc"),
    );
    link.call(request).await.map(drop)
}

/// A request that got no answer.
#[derive(Debug)]
pub(crate) struct Broke {
    /// Whether nothing of it was sent.
    pub(crate) unsent: bool,
    error: hyper::Error,
}

impl fmt::Display for Broke {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the connection to the engine broke")
    }
}

impl std::error::Error for Broke {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl tower::Service<Request<Outgoing>> for Link {
    type Response = Response<Incoming>;
    type Error = Broke;
    type Future = BoxFuture<'static, Result<Response<Incoming>, Broke>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        // A connection that is closed gives the request back; that is early enough.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Outgoing>) -> Self::Future {
        let sending = self.send.try_send_request(request);
        Box::pin(async move {
            sending.await.map_err(|error| Broke {
                unsent: error.message().is_some(),
                error: error.into_error(),
            })
        })
    }
}
