//! The client of operator, agents and schedulers: everything that it waits for has an end.
//!
//! kube's own defaults wait for minutes: 30 s to connect, no end for an answer, 15 hidden retries. Whoever makes a call bounds it
//! by a time of its own besides; what is bounded here is what nobody else can, a watch and the list that it begins with.
//!
//! kube also keeps connections that nobody uses for 90 s. When a machine or a path is gone without a word, each of them is dead,
//! and each call that takes one learns that for itself, one after the other: a leader lost its lease by it, and who wanted it back
//! waited 10 s for each. So only what was used a moment ago is used again, and the client is put together here.

use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

const CONNECT: Duration = Duration::from_secs(5);
/// Longer than the 25 s after which the server ends a watch: an API server whose machine is gone tells nobody.
const SILENCE: Duration = Duration::from_secs(35);
/// How long a connection may rest before its next use. Shorter than a leader's 5 s between two renewals.
const REST: Duration = Duration::from_secs(3);

/// A client for the cluster of the pod that this runs in, or of the kubeconfig.
pub async fn connect() -> kube::Result<Client> {
    let config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    bounded(config, SILENCE, REST)
}

/// Without kube's retries: every loop of ours comes back by itself, with pauses; hidden tries would only make a call outlive its
/// caller.
fn bounded(config: Config, silence: Duration, rest: Duration) -> kube::Result<Client> {
    if let Some(proxy) = config.proxy_url {
        return Err(kube::Error::ProxyProtocolUnsupported {
            proxy_url: Box::new(proxy),
        });
    }
    let mut http = HttpConnector::new();
    // TLS is the layer above.
    http.enforce_http(false);
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(http)?);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_read_timeout(Some(silence));
    connector.set_write_timeout(Some(silence));
    connector.set_reset_reader_on_write(true);
    let transport: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(rest)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(transport);
    Ok(Client::new(service, config.default_namespace))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Node;
    use kube::Api;
    use kube::api::ListParams;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::{Barrier, watch};
    use tokio::time::timeout;

    use super::*;

    fn nodes(listener: &TcpListener, silence: Duration, rest: Duration) -> Api<Node> {
        let address = listener.local_addr().unwrap();
        let config = Config::new(format!("http://{address}").parse().unwrap());
        Api::all(bounded(config, silence, rest).unwrap())
    }

    #[tokio::test]
    async fn a_list_that_begins_and_never_ends_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nodes = nodes(&listener, Duration::from_millis(300), REST);
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{";
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(head).await.unwrap();
            // And says no more, as an API server whose machine has lost its power.
            std::future::pending::<()>().await;
        });
        let listed = timeout(Duration::from_mins(1), nodes.list(&ListParams::default())).await;
        listed.expect("it ends by itself").unwrap_err();
    }

    #[tokio::test]
    async fn of_connections_that_died_at_rest_no_second_one_is_tried() {
        const AT_ONCE: usize = 6;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nodes = nodes(&listener, Duration::from_hours(1), Duration::from_millis(100));
        let (die, is_dead) = watch::channel(false);
        tokio::spawn(async move {
            let all_asked = Arc::new(Barrier::new(AT_ONCE));
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                // The first ones are all in use at once, so that there are so many of them; then they are dead.
                let wait = (number < AT_ONCE).then(|| (all_asked.clone(), is_dead.clone()));
                tokio::spawn(answer_lists(stream, wait));
            }
        });
        let all = ListParams::default();
        let lists = futures::future::join_all((0..AT_ONCE).map(|_| nodes.list(&all)));
        assert!(lists.await.iter().all(Result::is_ok), "an API server that lives");
        die.send_replace(true);
        // Whatever is used again now is dead: a caller gives up after a while, longer than a connection may rest.
        let _ = timeout(Duration::from_millis(300), nodes.list(&all)).await;
        let second = timeout(Duration::from_mins(1), nodes.list(&all)).await;
        second.expect("it dials").unwrap();
    }

    async fn answer_lists(mut stream: TcpStream, first: Option<(Arc<Barrier>, watch::Receiver<bool>)>) {
        const BODY: &str = r#"{"apiVersion":"v1","kind":"NodeList","metadata":{},"items":[]}"#;
        let length = BODY.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{BODY}"
        );
        while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
            if let Some((all_asked, is_dead)) = &first {
                if *is_dead.borrow() {
                    return std::future::pending().await;
                }
                all_asked.wait().await;
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}
