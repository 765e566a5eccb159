//! The client: everything that it waits for has an end.

use std::time::Duration;

/// A client for the cluster of the kubeconfig, or of the pod that this runs in.
///
/// kube's own defaults wait for minutes: 30 s to connect, no end for an answer, 15 hidden retries.
pub async fn connect() -> anyhow::Result<kube::Client> {
    let config = kube::Config::infer().await?;
    Ok(client(config)?)
}

fn client(mut config: kube::Config) -> kube::Result<kube::Client> {
    config.connect_timeout = Some(Duration::from_secs(5));
    // Longer than the 25 s after which the server ends a watch; every other call has its own 10 s.
    config.read_timeout = Some(Duration::from_secs(35));
    config.reset_reader_on_write = true;
    config.write_timeout = Some(Duration::from_secs(35));
    config.default_retry = false;
    kube::Client::try_from(config)
}
