//! Hosts models: fetches them, tries them on their device, has one engine a device load them, keeps the engines alive.
//!
//! Level-based: what is wanted comes in as a list ([`ModelReplica`]s of this node), what is so goes out as a table
//! ([`Statuses`]). Nothing here knows where the list comes from; `afterglow up` feeds it from a folder, the agent from the
//! Kubernetes API.

mod engine;
mod package;
pub mod phase;
mod probe;
mod resident;
pub mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use afterglow_crds::gpu_node::Device;
use afterglow_crds::model_replica::{ModelReplica, ModelReplicaStatus};
use afterglow_proto::load::Model;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::fetch::Fetcher;
use engine::Engines;
pub use engine::Occupied;
use resident::{Resident, Shared};

/// How often engines that nobody needs are looked for.
const TIDY: Duration = Duration::from_secs(5);

/// What a host is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// The engine's program.
    pub engine: PathBuf,
    /// The agent's cache folder: `run/` and `engine/` in it are the host's.
    pub cache: PathBuf,
    /// Where engines listen; schedulers must reach it.
    pub address: IpAddr,
    /// Device i listens on this + 10 × i (gRPC), + 1 (HTTP), + 2 (metrics); 0 = free ports.
    pub first_port: u16,
    /// For measuring a model's latency.
    pub probe_seconds: f64,
    /// When a probe is stopped.
    pub probe_limit: Duration,
    /// An engine without a replica is stopped after this.
    pub idle_engine: Duration,
}

impl Options {
    /// The defaults of the agent in its pod.
    pub fn new(engine: PathBuf, cache: PathBuf, address: IpAddr) -> Self {
        Self {
            engine,
            cache,
            address,
            first_port: 9500,
            probe_seconds: 2.0,
            probe_limit: Duration::from_mins(5),
            idle_engine: Duration::from_mins(1),
        }
    }
}

/// Namespace and name.
pub type Key = (String, String);

/// What is so, of every replica that is wanted or still here.
pub type Statuses = BTreeMap<Key, Reported>;

/// What is so of one replica.
#[derive(Debug, Clone, PartialEq)]
pub struct Reported {
    /// Which object of that name.
    pub uid: Option<String>,
    /// Its status.
    pub status: ModelReplicaStatus,
    /// No engine has anything of it any more: its finalizer may go.
    pub engine_released: bool,
}

/// A host that runs. It ends when its token is cancelled.
pub struct Handle {
    /// What is so.
    pub statuses: watch::Receiver<Statuses>,
    /// How busy the models of each device are.
    pub load: watch::Receiver<BTreeMap<String, Vec<Model>>>,
    /// On which devices engines run, or still end.
    pub occupied: watch::Receiver<Occupied>,
    task: JoinHandle<()>,
}

impl Handle {
    /// Waits, after the token was cancelled, until every engine has ended in order (35 s at most).
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the host panicked");
        }
    }
}

/// Hosts what `desired` wants on `devices` until `stop` is cancelled.
pub fn spawn(
    options: Options,
    fetcher: Fetcher,
    devices: watch::Receiver<Vec<Device>>,
    desired: watch::Receiver<Vec<ModelReplica>>,
    stop: CancellationToken,
) -> Handle {
    let statuses = watch::Sender::default();
    let receiver = statuses.subscribe();
    let engines = Engines::new(options.clone(), devices.clone(), stop.clone());
    let load = engines.loads();
    let occupied = engines.occupied();
    let shared = Arc::new(Shared {
        options,
        fetcher,
        engines,
        devices,
        statuses,
    });
    let host = Host {
        shared,
        residents: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    Handle {
        statuses: receiver,
        load,
        occupied,
        task: tokio::spawn(host.run(desired, stop)),
    }
}

struct Host {
    shared: Arc<Shared>,
    residents: BTreeMap<Key, Held>,
    tasks: JoinSet<Key>,
}

struct Held {
    uid: Option<String>,
    deleted: CancellationToken,
}

impl Host {
    async fn run(mut self, mut desired: watch::Receiver<Vec<ModelReplica>>, stop: CancellationToken) {
        let mut tidy = tokio::time::interval(TIDY);
        loop {
            let wanted = desired.borrow_and_update().clone();
            self.reconcile(&wanted);
            tokio::select! {
                () = stop.cancelled() => break,
                changed = desired.changed() => if changed.is_err() {
                    // Who wants has gone; what is so stays until the stop.
                    stop.cancelled().await;
                    break;
                },
                Some(ended) = self.tasks.join_next() => self.ended(ended),
                _ = tidy.tick() => self.shared.engines.tidy(),
            }
        }
        self.tasks.shutdown().await;
        self.shared.engines.ended().await;
    }

    /// A replica without end is a bug of ours; it must not take its name along.
    fn ended(&mut self, ended: Result<Key, tokio::task::JoinError>) {
        match ended {
            Ok(key) => {
                self.residents.remove(&key);
            }
            Err(error) => {
                tracing::error!(%error, "a replica's task panicked");
                self.residents.retain(|_, held| !held.deleted.is_cancelled());
            }
        }
    }

    fn reconcile(&mut self, desired: &[ModelReplica]) {
        let held = self.residents.iter().map(|(key, held)| (key, held.uid.as_ref()));
        let changes = changes(held, &desired);
        for key in &changes.cancel {
            if let Some(held) = self.residents.get(key) {
                held.deleted.cancel();
            }
        }
        let known: BTreeSet<Key> = desired.iter().map(key).collect();
        self.shared.statuses.send_if_modified(|statuses| {
            let before = statuses.len();
            statuses.retain(|key, _| known.contains(key) || self.residents.contains_key(key));
            statuses.len() != before
        });
        for replica in changes.release {
            self.release(key(&replica), &replica);
        }
        for replica in changes.begin {
            self.begin(key(&replica), replica);
        }
    }

    /// A replica that is to go and that no engine of this process has: its engines ended with the agent before.
    fn release(&self, key: Key, replica: &ModelReplica) {
        let reported = Reported {
            uid: replica.metadata.uid.clone(),
            status: replica.status.clone().unwrap_or_default(),
            engine_released: true,
        };
        self.shared.statuses.send_if_modified(|statuses| {
            let known = statuses
                .get(&key)
                .is_some_and(|known| known.uid == reported.uid && known.engine_released);
            if !known {
                statuses.insert(key, reported);
            }
            !known
        });
    }

    fn begin(&mut self, key: Key, replica: ModelReplica) {
        let deleted = CancellationToken::new();
        let held = Held {
            uid: replica.metadata.uid.clone(),
            deleted: deleted.clone(),
        };
        let resident = Resident::new(Arc::clone(&self.shared), key.clone(), replica, deleted);
        self.residents.insert(key.clone(), held);
        self.tasks.spawn(async move {
            resident.run().await;
            key
        });
    }
}

/// What a new list of wishes changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Not wanted any more, or by another object of that name: drained and let go. Its successor waits until it is gone.
    pub cancel: Vec<Key>,
    /// To go, and nothing of it is here: its engines ended with the agent before.
    pub release: Vec<ModelReplica>,
    /// New here.
    pub begin: Vec<ModelReplica>,
}

/// What `desired` changes for the replicas that are `held`, each with its uid.
pub fn changes<'a>(
    held: impl Iterator<Item = (&'a Key, Option<&'a String>)>,
    desired: &[ModelReplica],
) -> Changes {
    let held: BTreeMap<&Key, Option<&String>> = held.collect();
    let desired: BTreeMap<Key, &ModelReplica> =
        desired.iter().map(|replica| (key(replica), replica)).collect();
    let mut changes = Changes::default();
    for (key, uid) in &held {
        let wanted = desired.get(*key).is_some_and(|replica| {
            replica.metadata.uid.as_ref() == *uid && replica.metadata.deletion_timestamp.is_none()
        });
        if !wanted {
            changes.cancel.push((*key).clone());
        }
    }
    for (key, replica) in desired {
        if held.contains_key(&key) {
            continue;
        }
        if replica.metadata.deletion_timestamp.is_some() {
            changes.release.push(replica.clone());
        } else {
            changes.begin.push(replica.clone());
        }
    }
    changes
}

/// Namespace and name of a replica.
pub fn key(replica: &ModelReplica) -> Key {
    let metadata = &replica.metadata;
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}
