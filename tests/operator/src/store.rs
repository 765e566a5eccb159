//! etcd, and how whoever looks after it makes room in it: through the JSON that it also speaks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hyper::Request;
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::child::Child;

/// A running etcd.
#[derive(Debug)]
pub struct Store {
    port: u16,
    _child: Child,
}

impl Store {
    /// Starts one in a folder; beyond `quota` bytes it takes no more.
    pub(crate) fn start(
        program: &Path,
        folder: &Path,
        port: u16,
        peer: u16,
        quota: Option<u64>,
    ) -> Result<Self> {
        let child = Child::start(
            "etcd",
            program,
            &arguments(folder, port, peer, quota),
            &[("PATH", "/usr/bin:/bin")],
            &PathBuf::from(folder).join("etcd.log"),
        )?;
        Ok(Self { port, _child: child })
    }

    /// Forgets what was, gives the room back, and takes writes again.
    pub async fn make_room(&self) -> Result<()> {
        let revision = self.ask("/v3/maintenance/status", json!({})).await?["header"]["revision"].clone();
        ensure!(
            revision.is_string(),
            "etcd's status names no revision: {revision}"
        );
        self.ask(
            "/v3/kv/compaction",
            json!({ "revision": revision, "physical": true }),
        )
        .await?;
        self.ask("/v3/maintenance/defragment", json!({})).await?;
        let alarms = self
            .ask("/v3/maintenance/alarm", json!({ "action": "GET" }))
            .await?;
        let alarms = alarms["alarms"].as_array().cloned().unwrap_or_default();
        ensure!(!alarms.is_empty(), "etcd gave no alarm");
        for alarm in alarms {
            let off =
                json!({ "action": "DEACTIVATE", "memberID": alarm["memberID"], "alarm": alarm["alarm"] });
            self.ask("/v3/maintenance/alarm", off).await?;
        }
        Ok(())
    }

    async fn ask(&self, path: &str, what: Value) -> Result<Value> {
        let url = format!("http://127.0.0.1:{}", self.port);
        let mut config = Config::new(url.parse().context("an address")?);
        config.read_timeout = Some(Duration::from_secs(30));
        let client = Client::try_from(config).context("make a client of etcd")?;
        let request = Request::post(path)
            .header("content-type", "application/json")
            .body(what.to_string().into_bytes())?;
        client
            .request(request)
            .await
            .with_context(|| format!("ask etcd for {path}"))
    }
}

fn arguments(folder: &Path, client: u16, peer: u16, quota: Option<u64>) -> Vec<String> {
    let (client, peer) = (
        format!("http://127.0.0.1:{client}"),
        format!("http://127.0.0.1:{peer}"),
    );
    let mut arguments = vec![
        format!("--data-dir={}/etcd", folder.display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    arguments.extend(quota.map(|bytes| format!("--quota-backend-bytes={bytes}")));
    arguments
}
