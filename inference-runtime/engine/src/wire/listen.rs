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

/// Largest header list over HTTP/2, as h2 counts it.
const HEADER_LIST_BYTES: u32 = 16 << 10;

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
    // A connection that says nothing at all: over HTTP/2 nobody else counts its time.
    if tokio::time::timeout(HEAD_OR_IDLE, stream.readable())
        .await
        .is_err()
    {
        return;
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
        .max_concurrent_streams(256);
    match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    use super::*;

    struct Running {
        address: SocketAddr,
        stop: CancellationToken,
        server: JoinHandle<()>,
    }

    async fn start(router: Router) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, router, Protocol::Http1, stop.clone()));
        Running {
            address,
            stop,
            server,
        }
    }

    async fn ask(stream: &mut TcpStream, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// What comes until `end`, or until the connection is closed where `end` is empty.
    async fn hear(stream: &mut TcpStream, end: &str) -> String {
        let mut heard = Vec::new();
        while end.is_empty() || !heard.ends_with(end.as_bytes()) {
            let mut piece = [0; 1024];
            let length = stream.read(&mut piece).await.unwrap();
            if length == 0 {
                break;
            }
            heard.extend_from_slice(&piece[..length]);
        }
        String::from_utf8(heard).unwrap()
    }

    #[tokio::test]
    async fn a_stopping_server_closes_idle_connections_and_finishes_what_runs() {
        let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = {
            let (entered, go) = (entered.clone(), go.clone());
            get(async move || {
                entered.notify_one();
                go.notified().await;
                "finished"
            })
        };
        let running = start(
            Router::new()
                .route("/quick", get(async || "quick"))
                .route("/slow", slow),
        )
        .await;
        let mut idle = TcpStream::connect(running.address).await.unwrap();
        for _ in 0..2 {
            ask(&mut idle, "/quick").await;
            assert!(hear(&mut idle, "quick").await.starts_with("HTTP/1.1 200"));
        }
        let mut busy = TcpStream::connect(running.address).await.unwrap();
        ask(&mut busy, "/slow").await;
        entered.notified().await;

        running.stop.cancel();
        assert_eq!(
            hear(&mut idle, "").await,
            "",
            "idle connections are closed at once"
        );
        assert!(!running.server.is_finished(), "a request still runs");
        go.notify_one();
        assert!(hear(&mut busy, "").await.ends_with("finished"));
        running.server.await.unwrap();
        assert!(TcpStream::connect(running.address).await.is_err());
    }

    #[tokio::test]
    async fn an_endless_request_head_ends_its_connection_and_no_other() {
        let running = start(Router::new().route("/", get(async || "fine"))).await;
        let mut endless = TcpStream::connect(running.address).await.unwrap();
        let head = "GET / HTTP/1.1\r\nX: ".to_owned() + &"a".repeat(HEAD_BYTES);
        let mut piece = head.as_bytes();
        while endless.write_all(piece).await.is_ok() {
            piece = &head.as_bytes()[20..];
        }
        let mut other = TcpStream::connect(running.address).await.unwrap();
        ask(&mut other, "/").await;
        assert!(hear(&mut other, "fine").await.starts_with("HTTP/1.1 200"));
    }
}
