//! Sockets: accept, serve, and an end that loses nobody's request.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures::future::BoxFuture;
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admit::Admission;
use crate::config::{Config, Limits};
use crate::door;
use crate::fleet::Fleet;
use crate::load::{self, Table};
use crate::metrics::Metrics;
use crate::send::web::Web;
use crate::send::{Budget, Links, Scheduler};
use crate::sessions::Sessions;

/// Connections that one door holds open at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// A request head takes no longer than this, and an idle connection lives no longer.
const HEAD_OR_IDLE: Duration = Duration::from_secs(75);
/// Largest request head over HTTP/1.
const HEAD_BYTES: usize = 64 << 10;
/// Largest header list over HTTP/2, as h2 counts it.
const HEADER_LIST_BYTES: u32 = 16 << 10;
/// After open connections were told to go away, new ones are still taken for so long: kube-proxy of some node may not have heard
/// of the end yet, and a client that was sent away may come back to where it was sent.
const LINGER: Duration = Duration::from_secs(1);
/// A client over HTTP/2 that is silent for so long is asked for a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// A connection over HTTP/2 lives for about so long, a tenth more or less, and is then asked to go away: clients that keep one for
/// ever would not find a scheduler that came later.
const AGE: Duration = Duration::from_mins(10);

/// The sockets to serve on; bound by the caller, so that a port in use is an error before anything else.
#[derive(Debug)]
pub struct Listeners {
    /// REST and OpenAI.
    pub http: TcpListener,
    /// gRPC.
    pub grpc: TcpListener,
    /// `/metrics`, `/healthz`, `/readyz`; `None` = nowhere.
    pub metrics: Option<TcpListener>,
}

/// More metrics for the same page: text in Prometheus' format.
pub type MetricsOfOthers = Arc<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>;

/// How to serve.
pub struct Options {
    /// Where.
    pub listeners: Listeners,
    /// Name of the `InferenceCluster`.
    pub cluster: String,
    /// Namespace of the scheduler itself.
    pub namespace: String,
    /// What people chose; may change.
    pub config: watch::Receiver<Config>,
    /// Bounds.
    pub limits: Limits,
    /// After readiness is off, so long new requests are still taken: those who send them hear of it only then.
    pub grace: Duration,
    /// Whether what this scheduler is for has begun to serve; `None`: it is ready as soon as it listens.
    pub ready: Option<watch::Receiver<bool>>,
    /// Metrics of others, to be shown beside the scheduler's own.
    pub metrics_of_others: Option<MetricsOfOthers>,
}

/// Serves until `shutdown` fires; then is not ready any more, takes requests for `grace` longer, lets running ones finish (as long
/// as a request may take), and returns.
pub async fn serve(
    options: Options,
    fleet: watch::Receiver<Arc<Fleet>>,
    shutdown: CancellationToken,
) -> Result<()> {
    let Options {
        listeners,
        cluster,
        namespace,
        config,
        limits,
        grace,
        ready,
        metrics_of_others,
    } = options;
    let (leaving, stop) = (CancellationToken::new(), CancellationToken::new());
    let links = Arc::new(Links::default());
    let metrics = Metrics::new(&cluster).context("making the metrics")?;
    let scheduler = Arc::new(Scheduler {
        cluster,
        own_namespace: namespace,
        config,
        fleet: fleet.clone(),
        table: Arc::new(Table::default()),
        sessions: Sessions::default(),
        admission: Admission::new(limits),
        budget: Budget::default(),
        metrics,
        web: Web::new(links.clone()),
        links: links.clone(),
        limits,
        begun: ready,
        leaving: leaving.clone(),
        stop: stop.clone(),
    });
    let ended = CancellationToken::new();
    let background = {
        let changed = move |fleet: &Fleet| links.keep(fleet);
        tokio::spawn(load::follow(
            fleet,
            scheduler.table.clone(),
            changed,
            ended.clone(),
        ))
    };
    let pages = listeners.metrics.map(|listener| {
        let router = pages(scheduler.clone(), metrics_of_others);
        tokio::spawn(listen(
            listener,
            router,
            Protocol::Http1,
            limits.deadline,
            ended.clone(),
        ))
    });
    let doors = async {
        tokio::join!(
            listen(
                listeners.http,
                door::rest::router(scheduler.clone()),
                Protocol::Http1,
                limits.deadline,
                stop.clone()
            ),
            listen(
                listeners.grpc,
                door::grpc::router(scheduler.clone()),
                Protocol::Http2,
                limits.deadline,
                stop.clone()
            ),
        );
    };
    let end = async {
        shutdown.cancelled().await;
        tracing::info!("draining: no longer ready");
        leaving.cancel();
        tokio::time::sleep(grace).await;
        stop.cancel();
    };
    tokio::join!(doors, end);
    ended.cancel();
    background.await.context("following the fleet")?;
    if let Some(pages) = pages {
        pages.await.context("serving metrics")?;
    }
    Ok(())
}

impl Scheduler {
    /// Whether requests should be sent here: the fleet is known (`serve` is not called before) and the end is not near.
    pub(crate) fn ready(&self) -> bool {
        let begun = self.begun.as_ref().is_none_or(|begun| *begun.borrow());
        begun && !self.leaving.is_cancelled()
    }
}

#[derive(Clone)]
struct Pages {
    scheduler: Arc<Scheduler>,
    others: Option<MetricsOfOthers>,
}

fn pages(scheduler: Arc<Scheduler>, others: Option<MetricsOfOthers>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .with_state(Pages { scheduler, others })
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let mut text = pages.scheduler.render();
    if let Some(others) = &pages.others {
        text.push_str(&others().await);
    }
    let mut response = text.into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

async fn readyz(State(pages): State<Pages>) -> (StatusCode, &'static str) {
    if pages.scheduler.ready() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    }
}

/// Which HTTP a door speaks. Never both on one port: telling them apart waits for bytes without a time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Serves until `stop` fires; then tells open connections to go away, takes new ones for [`LINGER`] longer, and waits for running
/// requests, though not longer than `patience`.
async fn listen(
    listener: TcpListener,
    router: Router,
    protocol: Protocol,
    patience: Duration,
    stop: CancellationToken,
) {
    let builder = Arc::new(builder(protocol));
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    let abandon = CancellationToken::new();
    let mut closing = pin!(lingering(stop.clone()));
    loop {
        let (stream, slot) = tokio::select! {
            () = &mut closing => break,
            accepted = accept(&listener, &slots) => match accepted {
                Some(accepted) => accepted,
                None => break,
            },
        };
        let (builder, router, stop, abandon) =
            (builder.clone(), router.clone(), stop.clone(), abandon.clone());
        connections.spawn(async move {
            tokio::select! {
                () = connection(&builder, stream, router, protocol, stop) => {}
                () = abandon.cancelled() => {}
            }
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(patience, connections.wait()).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "requests still running after {patience:?} are dropped"
        );
        abandon.cancel();
        connections.wait().await;
    }
}

/// Until [`LINGER`] after `stop`.
async fn lingering(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LINGER).await;
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Small answers must not wait for the peer's delayed acknowledgement (40 ms).
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY");
                }
                return Some((stream, slot));
            }
            Err(error) => {
                // Out of descriptors, mostly: asking again at once would spin.
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    router: Router,
    protocol: Protocol,
    stop: CancellationToken,
) {
    // A connection that says nothing at all: over HTTP/2 nobody else counts its time. One that was just made is given the time to
    // send its request even at the end.
    let mut first = [0];
    // Not `readable()`, which may be told too early: a connection that has read nothing yet would be closed at the end.
    let first_word = tokio::time::timeout(HEAD_OR_IDLE, stream.peek(&mut first));
    tokio::select! {
        biased;
        said = first_word => if said.is_err() { return },
        () = lingering(stop.clone()) => return,
    }
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let old = async {
        match protocol {
            Protocol::Http1 => std::future::pending().await,
            Protocol::Http2 => tokio::time::sleep(age(rand::random())).await,
        }
    };
    // What has come is read before the connection hears that it is to go.
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = old => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients that hang up, send garbage or time out; nothing of ours.
        tracing::debug!(error, "connection");
    }
}

/// How old a connection gets: clients that came together do not all come again together.
fn age(random: u16) -> Duration {
    AGE * 9 / 10 + AGE / 5 * u32::from(random) / u32::from(u16::MAX)
}

fn builder(protocol: Protocol) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_OR_IDLE)
        .max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_concurrent_streams(256);
    match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    }
}
