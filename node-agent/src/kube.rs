//! The API server: a client whose calls all end.

use std::time::Duration;

use kube::{Client, Config};

/// A call that has not come back by then never will.
pub const CALL: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
const CONNECT: Duration = Duration::from_secs(5);
/// Longer than the 25 s after which the server ends a watch, whose own list nobody else bounds.
const READ: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 35_000 });

/// A call to the API server that went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It did not come back.
    #[error("{what}: no answer from the API server in {} s", CALL.as_secs())]
    Silent {
        /// What was being done, to what.
        what: String,
    },
    /// It was refused, or failed.
    #[error("{what}: {source}")]
    Failed {
        /// What was being done, to what.
        what: String,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
}

impl ApiError {
    /// The HTTP status, where the API server gave one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Failed { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Silent { .. } => None,
        }
    }
}

/// A client from the pod's service account (or a kubeconfig, outside of a pod).
pub async fn client() -> anyhow::Result<Client> {
    Ok(bounded(Config::infer().await?)?)
}

/// A client that waits for nothing for ever: of an API server whose machine is gone no connection tells by itself.
fn bounded(mut config: Config) -> kube::Result<Client> {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(READ);
    config.reset_reader_on_write = true;
    config.write_timeout = Some(READ);
    // Every loop here comes back by itself; hidden retries would only make a call outlive its caller.
    config.default_retry = false;
    Client::try_from(config)
}

/// A call with an end. `what` names the operation and its object: `read Node rig-1`.
pub async fn call<T>(
    what: impl Into<String>,
    future: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(CALL, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(ApiError::Failed {
            what: what.into(),
            source: Box::new(source),
        }),
        Err(_) => Err(ApiError::Silent { what: what.into() }),
    }
}

/// As [`call`], where an object that is not there is an answer.
pub async fn find<T>(
    what: impl Into<String>,
    future: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Option<T>, ApiError> {
    match call(what, future).await {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
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
        let client = bounded(Config::new(format!("http://{address}").parse().unwrap())).unwrap();
        let nodes: Api<Node> = Api::all(client);
        let all = kube::api::ListParams::default();
        let listed = tokio::time::timeout(Duration::from_mins(1), nodes.list(&all));
        listed.await.expect("it ends by itself").unwrap_err();
    }
}
