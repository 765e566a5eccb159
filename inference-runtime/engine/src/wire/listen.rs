//! The socket side that all servers share: accept, serve connections, stop.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections that one server holds open at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 1024;

/// A request head takes no longer than this, and an idle connection lives no longer: as long as nginx keeps one.
const HEAD_OR_IDLE: Duration = Duration::from_secs(75);

/// Largest request head over HTTP/1.
const HEAD_BYTES: usize = 64 << 10;

/// Largest header list over HTTP/2, as h2 counts it: what a scheduler takes of its clients, 16 KiB, and what it adds. A refusal counts
/// against the connection, and it is everybody's.
const HEADER_LIST_BYTES: u32 = 32 << 10;

/// Requests that one connection over HTTP/2 may have open: a scheduler sends those of all its clients through one.
const STREAMS: u32 = 256;

/// Requests over HTTP/2 that were given up before we took them; one more ends the connection ("rapid reset"). No fewer than may be
/// open: a scheduler whose clients leave all at once means no harm.
const GIVEN_UP: usize = STREAMS as usize;

/// Requests over HTTP/2 that their client's own mistakes made us give up, as long as a connection lives; one more ends it ("made you
/// reset"). What hyper would choose, said here because the libraries around it choose otherwise.
const MISTAKES: usize = 1024;

/// A connection that was just made is given so long, once the server is told to stop, to send its request.
const LINGER: Duration = Duration::from_secs(1);

/// How long running requests may take once the server is told to stop.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Which HTTP a server speaks. Never both on one port: telling them apart waits for bytes without a time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1 with keep-alive.
    Http1,
    /// HTTP/2 without TLS, as gRPC speaks it.
    Http2,
}

/// Serves until `stop` fires; then takes no connection, closes idle ones, and waits for running requests, though not
/// longer than [`PATIENCE`].
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    protocol: Protocol,
    stop: CancellationToken,
) {
    let builder = Arc::new(builder(protocol));
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    let abandon = CancellationToken::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            stream = accept(&listener, &slots) => stream,
        };
        let (stream, slot) = stream;
        let (builder, router, stop, abandon) =
            (builder.clone(), router.clone(), stop.clone(), abandon.clone());
        connections.spawn(async move {
            tokio::select! {
                () = connection(&builder, stream, router, stop) => {}
                () = abandon.cancelled() => {}
            }
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(PATIENCE, connections.wait()).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "requests still running after {PATIENCE:?} are dropped"
        );
        abandon.cancel();
        connections.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, tokio::sync::OwnedSemaphorePermit) {
    let slot = slots
        .clone()
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Small answers must not wait for the peer's delayed acknowledgement (40 ms).
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY");
                }
                return (stream, slot);
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
    stop: CancellationToken,
) {
    // A connection that says nothing at all: over HTTP/2 nobody else counts its time, and at the end it must keep nobody.
    let mut first = [0];
    // Not `readable()`, which may be told too early.
    let first_word = tokio::time::timeout(HEAD_OR_IDLE, stream.peek(&mut first));
    let stopping = async {
        stop.cancelled().await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        biased;
        said = first_word => if said.is_err() { return },
        () = stopping => return,
    }
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients that hang up, send garbage or time out; nothing of ours.
        tracing::debug!(error, "connection");
    }
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
        .keep_alive_interval(Some(Duration::from_mins(1)))
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(GIVEN_UP)
        .max_local_error_reset_streams(MISTAKES);
    match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    }
}

#[cfg(test)]
mod tests;
