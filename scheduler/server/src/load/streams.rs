//! One stream of load reports per node, as long as the node is in the fleet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afterglow_proto::load::WatchRequest;
use afterglow_proto::load::load_client::LoadClient;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Endpoint;

use super::{STALE, Table};
use crate::fleet::Fleet;
use crate::send::{causes, connector};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A node that is back should be heard at once: to try costs one packet.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Keeps one stream open to every node of the fleet until `stop`; forgets replicas and nodes that have left.
pub(crate) async fn follow(
    mut fleet: watch::Receiver<Arc<Fleet>>,
    table: Arc<Table>,
    changed: impl Fn(&Fleet) + Send,
    stop: CancellationToken,
) {
    let mut streams: HashMap<String, (String, DropGuard)> = HashMap::new();
    loop {
        let view = fleet.borrow_and_update().clone();
        table.keep(&view, Instant::now());
        streams.retain(|node, (address, _)| view.load.get(node) == Some(address));
        for (node, address) in &view.load {
            streams.entry(node.clone()).or_insert_with(|| {
                let end = CancellationToken::new();
                tokio::spawn(end.clone().run_until_cancelled_owned(listen(
                    node.clone(),
                    address.clone(),
                    table.clone(),
                )));
                (address.clone(), end.drop_guard())
            });
        }
        changed(&view);
        tokio::select! {
            () = stop.cancelled() => return,
            more = fleet.changed() => if more.is_err() {
                // Whoever knows the fleet has gone; the last view stays.
                return stop.cancelled().await;
            }
        }
    }
}

/// Listens to one node for ever.
async fn listen(node: String, address: String, table: Arc<Table>) {
    let mut pause = FIRST_PAUSE;
    let mut lost = false;
    loop {
        let heard = stream(&node, &address, &table).await;
        if heard.reports > 0 {
            pause = FIRST_PAUSE;
            lost = false;
        }
        if !std::mem::replace(&mut lost, true) {
            tracing::warn!(node, address, error = heard.end, "no load reports; trying again");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// How a stream ended.
struct Heard {
    reports: u64,
    end: String,
}

async fn stream(node: &str, address: &str, table: &Table) -> Heard {
    let mut reports = 0;
    let ended = async {
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| error.to_string())?
            .connect_with_connector(connector())
            .await
            .map_err(|error| causes(&error))?;
        let mut client = LoadClient::new(channel);
        let asking = client.watch(WatchRequest::default());
        let asked = tokio::time::timeout(STALE, asking).await;
        let asked = asked.map_err(|_| format!("no answer within {} s", STALE.as_secs()))?;
        let mut stream = asked.map_err(|status| status.to_string())?.into_inner();
        loop {
            match tokio::time::timeout(STALE, stream.message()).await {
                Err(_) => return Err(format!("silent for {} s", STALE.as_secs())),
                Ok(Err(status)) => return Err(status.to_string()),
                Ok(Ok(None)) => return Err("the node ended the stream".to_owned()),
                Ok(Ok(Some(report))) => {
                    reports += 1;
                    table.report(node, &report, Instant::now());
                }
            }
        }
    };
    let end: Result<(), String> = ended.await;
    Heard {
        reports,
        end: end.err().unwrap_or_default(),
    }
}
