//! The protocols: OIP v2 over REST and gRPC, OpenAI's embeddings, Prometheus.
//!
//! Three kinds of file: pure translation (`oip`, `json`), one server per protocol (`rest`, `grpc`, `openai`, `metrics`),
//! and the socket side that they share (`listen`). No decision about models is taken here: handlers decode, ask the
//! engine, encode.

mod deadline;
mod edge;
mod grpc;
mod guard;
mod json;
mod listen;
mod metrics;
mod oip;
mod openai;
mod rest;
mod status;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Engine;
use listen::Protocol;

/// The sockets to serve on; bound by the caller, so that a port in use is an error before any model is loaded.
#[derive(Debug)]
pub struct Listeners {
    /// REST and OpenAI.
    pub http: TcpListener,
    /// gRPC.
    pub grpc: TcpListener,
    /// Prometheus; `None` = nowhere.
    pub metrics: Option<TcpListener>,
}

/// Serves until `stop` fires, then takes no new connection, lets running requests finish (30 s at most), and returns.
/// Metrics are served until the last request is done.
pub async fn serve(engine: Engine, listeners: Listeners, stop: CancellationToken) {
    let Listeners { http, grpc, metrics } = listeners;
    let web = rest::router(engine.clone()).merge(openai::router(engine.clone()));
    let requests = async {
        tokio::join!(
            listen::serve(http, edge::wrap(web), Protocol::Http1, stop.clone()),
            listen::serve(
                grpc,
                grpc::router(engine.clone(), stop.clone()),
                Protocol::Http2,
                stop.clone()
            ),
        );
    };
    let done = CancellationToken::new();
    let scrapes = async {
        if let Some(listener) = metrics {
            let router = edge::wrap(metrics::router(engine.clone()));
            listen::serve(listener, router, Protocol::Http1, done.clone()).await;
        }
    };
    tokio::join!(
        async {
            requests.await;
            done.cancel();
        },
        scrapes
    );
}
