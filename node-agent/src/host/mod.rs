//! Hosts models: fetches them, tries them on their device, has one engine a device load them, keeps the engines alive.
//!
//! Level-based: what is wanted comes in as a list ([`ModelReplica`]s of this node), what is so goes out as a table
//! ([`Statuses`]). Nothing here knows where the list comes from; `afterglow up` feeds it from a folder, the agent from the
//! Kubernetes API.

mod engine;
mod loads;
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

use afterglow_crds::condition::{self, READY, State as Condition};
use afterglow_crds::gpu_node::Device;
use afterglow_crds::model_replica::{ModelReplica, ModelReplicaStatus};
use afterglow_proto::load::Model;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::fetch::Fetcher;
use crate::occupants::Occupants;
use engine::Engines;
pub use engine::{Vital, Vitals};
pub use resident::engine_name;
use resident::{Resident, Shared};

/// How often engines that nobody needs are looked for.
const TIDY: Duration = Duration::from_secs(5);
/// Before a replica that met a bug of ours is begun again.
const REST: Duration = Duration::from_mins(1);

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
    /// Each device's engine, as seen from outside.
    pub engines: watch::Receiver<Vitals>,
    /// Which devices its processes are on.
    pub occupants: Occupants,
    task: JoinHandle<()>,
    over: CancellationToken,
}

impl Handle {
    /// Waits, after the token was cancelled, until every engine has ended in order (40 s at most).
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the host panicked");
        }
    }

    /// Waits until it has ended, for whatever reason: without a stop that is a bug, and nobody hosts anything any more.
    pub async fn over(&self) {
        self.over.cancelled().await;
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
    let (load, vitals) = (engines.loads().subscribe(), engines.vitals());
    let occupants = engines.occupants().clone();
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
    let over = CancellationToken::new();
    let ending = over.clone().drop_guard();
    Handle {
        statuses: receiver,
        load,
        engines: vitals,
        occupants,
        task: tokio::spawn(async move {
            let _ending = ending;
            host.run(desired, stop).await;
        }),
        over,
    }
}

struct Host {
    shared: Arc<Shared>,
    residents: BTreeMap<Key, Held>,
    tasks: JoinSet<Key>,
}

struct Held {
    uid: Option<String>,
    device: String,
    deleted: CancellationToken,
    task: Id,
}

impl Host {
    async fn run(mut self, mut desired: watch::Receiver<Vec<ModelReplica>>, stop: CancellationToken) {
        let mut tidy = tokio::time::interval(TIDY);
        let mut wanted_back = self.shared.engines.occupants().wanted_back();
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
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                Ok(()) = wanted_back.changed() => self.shared.engines.tidy(),
                _ = tidy.tick() => self.shared.engines.tidy(),
            }
        }
        self.tasks.shutdown().await;
        self.shared.engines.ended().await;
    }

    fn ended(&mut self, ended: Result<(Id, Key), JoinError>) {
        let error = match ended {
            Ok((_, key)) => {
                self.residents.remove(&key);
                return;
            }
            Err(error) => error,
        };
        // A bug of ours: it must take neither its name along, nor what an engine has of it, nor other replicas.
        let mut all = self.residents.iter_mut();
        let Some((key, held)) = all.find(|(_, held)| held.task == error.id()) else {
            return;
        };
        tracing::error!(namespace = key.0, replica = key.1, %error, "a replica's task panicked");
        self.shared.engines.renew(&held.device);
        let message = format!("the agent met a bug while it hosted it, and begins anew in a minute: {error}");
        self.shared.statuses.send_modify(|statuses| {
            if let Some(reported) = statuses.get_mut(key) {
                let status = &mut reported.status;
                let failed = Condition::new(READY, false, "EngineFailed", message);
                let now = Time(resident::now());
                let generation = status.observed_generation;
                status.endpoint = None;
                status.conditions = condition::set(&status.conditions, &[failed], generation, now);
            }
        });
        let (key, deleted) = (key.clone(), held.deleted.clone());
        let rest = self.tasks.spawn(async move {
            let _ = tokio::time::timeout(REST, deleted.cancelled()).await;
            key
        });
        held.task = rest.id();
    }

    fn reconcile(&mut self, desired: &[ModelReplica]) {
        let held = self.residents.iter().map(|(key, held)| (key, held.uid.as_ref()));
        let changes = changes(held, desired);
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
        let (uid, device) = (replica.metadata.uid.clone(), replica.spec.device.clone());
        let resident = Resident::new(Arc::clone(&self.shared), key.clone(), replica, deleted.clone());
        let name = key.clone();
        let task = self.tasks.spawn(async move {
            resident.run().await;
            name
        });
        let held = Held {
            uid,
            device,
            deleted,
            task: task.id(),
        };
        self.residents.insert(key, held);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str) -> ModelReplica {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "afterglow.dev/v1alpha1", "kind": "ModelReplica",
            "metadata": {"name": name, "namespace": "team", "uid": name},
            "spec": {
                "cluster": "c", "nodeName": "n", "device": "gpu-0", "revision": 1, "memory": "1Gi",
                "model": {"name": "m", "source": {"uri": "https://h/m.onnx", "digest": "sha256:0"}}
            }
        }))
        .unwrap()
    }

    fn host(cache: &std::path::Path) -> Host {
        let devices = watch::channel(Vec::new()).1;
        let options = Options::new("/nowhere/engine".into(), cache.into(), [127, 0, 0, 1].into());
        let engines = Engines::new(options.clone(), devices.clone(), CancellationToken::new());
        let fetcher = Fetcher::open(crate::fetch::Options::new(cache.into(), 1 << 20)).unwrap();
        let statuses = watch::Sender::default();
        Host {
            shared: Arc::new(Shared {
                options,
                fetcher,
                engines,
                devices,
                statuses,
            }),
            residents: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    #[tokio::test]
    async fn a_bug_in_one_replica_is_said_of_it_and_costs_no_other_its_place() {
        let cache = tempfile::tempdir().unwrap();
        let mut host = host(cache.path());
        host.reconcile(&[replica("broken"), replica("leaving"), replica("fine")]);
        let named = |name: &str| ("team".to_owned(), name.to_owned());
        let mut told = host.shared.statuses.subscribe();
        drop(told.wait_for(|all| all.len() == 3).await.unwrap());
        // One is being deleted, which takes a while; another one's task panics.
        host.residents[&named("leaving")].deleted.cancel();
        let panicked = host.tasks.spawn(async { panic!("a bug") });
        host.residents.get_mut(&named("broken")).unwrap().task = panicked.id();
        let error = loop {
            match host.tasks.join_next_with_id().await.unwrap() {
                Err(error) => break error,
                Ok((_, ended)) => assert_eq!(ended, named("leaving"), "nobody else ends"),
            }
        };
        host.ended(Err(error));
        assert_eq!(host.residents.len(), 3, "all of them, until their own ends");
        let statuses = host.shared.statuses.borrow().clone();
        let ready = condition::find(&statuses[&named("broken")].status.conditions, READY).unwrap();
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("False", "EngineFailed")
        );
        assert!(ready.message.contains("a bug"), "{}", ready.message);
        // Deleted while it rests, it goes at once and is begun no more.
        host.residents[&named("broken")].deleted.cancel();
        let ended = loop {
            let ended = host.tasks.join_next_with_id().await.unwrap();
            if matches!(&ended, Ok((_, key)) if *key == named("broken")) {
                break ended;
            }
        };
        host.ended(ended);
        assert!(!host.residents.contains_key(&named("broken")));
    }
}
