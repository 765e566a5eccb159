use std::net::SocketAddr;

use axum::routing::get;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

async fn start(router: Router) -> Running {
    speaking(Protocol::Http1, router).await
}

async fn speaking(protocol: Protocol, router: Router) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, router, protocol, stop.clone()));
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

#[tokio::test]
async fn a_connection_that_has_said_nothing_does_not_keep_a_server_that_stops() {
    let running = start(Router::new().route("/", get(async || "fine"))).await;
    let silent = TcpStream::connect(running.address).await.unwrap();
    let mut other = TcpStream::connect(running.address).await.unwrap();
    ask(&mut other, "/").await;
    // Connections are taken in turn: the silent one has been.
    assert!(hear(&mut other, "fine").await.starts_with("HTTP/1.1 200"));
    running.stop.cancel();
    let ended = tokio::time::timeout(PATIENCE, running.server).await;
    assert!(ended.is_ok(), "it was waited for like a request that runs");
    drop(silent);
}

mod abuse {
    use super::*;

    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GO_AWAY: u8 = 7;
    /// `END_STREAM | END_HEADERS`.
    const WHOLE: u8 = 5;
    /// The error code `ENHANCE_YOUR_CALM`.
    const CALM: u8 = 11;
    /// `GET / HTTP/2`, of the authority `a`.
    const ASK: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
    /// A request with a status, which only answers have.
    const MALFORMED: [u8; 4] = [0x82, 0x86, 0x84, 0x88];

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// A connection over HTTP/2 to a server whose only path answers `fine`.
    async fn connect() -> (Running, TcpStream) {
        let running = speaking(Protocol::Http2, Router::new().route("/", get(async || "fine"))).await;
        let stream = greet(running.address).await;
        (running, stream)
    }

    async fn greet(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        greeting.extend(frame(SETTINGS, 0, 0, &[]));
        stream.write_all(&greeting).await.unwrap();
        stream
    }

    /// The payload of the next frame of that kind; `None` where the connection ends before.
    async fn next(stream: &mut (impl AsyncRead + Unpin), kind: u8) -> Option<Vec<u8>> {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await.ok()?;
            if head[3] == kind {
                return Some(payload);
            }
        }
    }

    /// Sends these frames of each stream, one stream after the other, until the server has ended the connection.
    async fn flood(stream: TcpStream, frames: impl Fn(u32) -> Vec<u8>) {
        let (mut reader, mut writer) = stream.into_split();
        let flooding = async {
            let mut first = 1;
            loop {
                let many: Vec<u8> = (first..first + 4000).step_by(2).flat_map(&frames).collect();
                if writer.write_all(&many).await.is_err() {
                    std::future::pending::<()>().await;
                }
                first += 4000;
            }
        };
        let farewell = tokio::time::timeout(Duration::from_mins(1), async {
            tokio::select! {
                () = flooding => None,
                farewell = next(&mut reader, GO_AWAY) => farewell,
            }
        });
        let farewell = farewell.await.expect("the server has had enough");
        // A connection that is cut with bytes under way may lose its last words.
        assert!(farewell.is_none_or(|said| said[4..8] == [0, 0, 0, CALM]));
    }

    async fn still_serves(running: &Running) {
        let mut other = greet(running.address).await;
        other.write_all(&frame(HEADERS, WHOLE, 1, &ASK)).await.unwrap();
        assert_eq!(next(&mut other, DATA).await.unwrap(), b"fine");
    }

    #[tokio::test]
    async fn who_gives_requests_up_without_end_is_sent_away_and_no_other() {
        let (running, stream) = connect().await;
        let given_up = |id| {
            let mut frames = frame(HEADERS, WHOLE, id, &ASK);
            frames.extend(frame(RESET, 0, id, &[0, 0, 0, 8]));
            frames
        };
        flood(stream, given_up).await;
        still_serves(&running).await;
    }

    #[tokio::test]
    async fn who_makes_the_server_give_requests_up_without_end_is_sent_away_and_no_other() {
        let (running, stream) = connect().await;
        flood(stream, |id| frame(HEADERS, WHOLE, id, &MALFORMED)).await;
        still_serves(&running).await;
    }

    #[tokio::test]
    async fn a_scheduler_whose_clients_leave_all_at_once_keeps_its_connection() {
        let (_running, mut stream) = connect().await;
        let mut all = Vec::new();
        for id in (1..).step_by(2).take(GIVEN_UP) {
            all.extend(frame(HEADERS, WHOLE, id, &ASK));
            all.extend(frame(RESET, 0, id, &[0, 0, 0, 8]));
        }
        all.extend(frame(PING, 0, 0, b"are you?"));
        stream.write_all(&all).await.unwrap();
        assert_eq!(next(&mut stream, PING).await.as_deref(), Some(&b"are you?"[..]));
    }
}
