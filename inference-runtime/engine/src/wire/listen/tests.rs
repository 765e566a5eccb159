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
