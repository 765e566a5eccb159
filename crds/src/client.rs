//! The client of operator, agents and schedulers: everything that it waits for has an end.
//!
//! kube's own defaults wait for minutes: 30 s to connect, no end for an answer, 15 hidden retries. Whoever makes a call bounds it
//! by a time of its own besides; what is bounded here is what nobody else can, a watch and the list that it begins with.

use std::time::Duration;

use kube::{Client, Config};

const CONNECT: Duration = Duration::from_secs(5);
/// Longer than the 25 s after which the server ends a watch: an API server whose machine is gone tells nobody.
const SILENCE: Duration = Duration::from_secs(35);

/// A client for the cluster of the pod that this runs in, or of the kubeconfig.
pub async fn connect() -> kube::Result<Client> {
    let config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    bounded(config, SILENCE)
}

fn bounded(mut config: Config, silence: Duration) -> kube::Result<Client> {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(silence);
    config.reset_reader_on_write = true;
    config.write_timeout = Some(silence);
    // Every loop of ours comes back by itself, with pauses; hidden tries would only make a call outlive its caller.
    config.default_retry = false;
    Client::try_from(config)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;
    use kube::Api;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_list_that_begins_and_never_ends_is_an_error() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{";
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(head).await.unwrap();
            // And says no more, as an API server whose machine has lost its power.
            std::future::pending::<()>().await;
        });
        let config = Config::new(format!("http://{address}").parse().unwrap());
        let nodes: Api<Node> = Api::all(bounded(config, Duration::from_millis(300)).unwrap());
        let all = kube::api::ListParams::default();
        let listed = tokio::time::timeout(Duration::from_mins(1), nodes.list(&all));
        listed.await.expect("it ends by itself").unwrap_err();
    }
}
