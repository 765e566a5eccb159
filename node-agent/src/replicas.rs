//! The Kubernetes side of hosting: which replicas the node is to have comes from a watch, how they are goes to their
//! status, and a replica that no engine has any more loses our finalizer.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use afterglow_crds::condition::{self, READY};
use afterglow_crds::labels::{AGENT_MANAGER, REPLICA_FINALIZER};
use afterglow_crds::model_replica::{ModelReplica, ModelReplicaStatus};
use futures::StreamExt as _;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::host::{Key, Reported, Statuses, key};
use crate::kube::{ApiError, call, find};

/// After a write that failed.
const RETRY: Duration = Duration::from_secs(3);
/// What is being done, and not what went wrong.
const FINE: [&str; 5] = ["Ready", "Fetching", "Probing", "Loading", "Draining"];
/// What the Events API takes.
const LONGEST_NOTE: usize = 1000;

/// Keeps `desired` as the cluster wants it and the cluster's statuses as `statuses` says, until `stop`.
pub async fn keep(
    client: Client,
    node: &str,
    cluster: &str,
    desired: watch::Sender<Vec<ModelReplica>>,
    statuses: watch::Receiver<Statuses>,
    stop: CancellationToken,
) {
    let wanted = desired.subscribe();
    let work = async {
        tokio::join!(
            follow(client.clone(), node, cluster, desired),
            Writer::new(client.clone(), node).run(wanted, statuses)
        )
    };
    tokio::select! {
        _ = work => {}
        () = stop.cancelled() => {}
    }
}

async fn follow(client: Client, node: &str, cluster: &str, desired: watch::Sender<Vec<ModelReplica>>) {
    let api: Api<ModelReplica> = Api::all(client);
    let config = watcher::Config::default()
        .fields(&format!("spec.nodeName={node}"))
        .timeout(25);
    let mut events = pin!(watcher(api, config).default_backoff());
    let mut table = Table::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if table.take(event) {
                    let replicas = table.known.values();
                    desired.send_replace(
                        replicas
                            .filter(|replica| replica.spec.cluster == cluster)
                            .cloned()
                            .collect(),
                    );
                }
            }
            // What was known stays wanted: an API server that is away changes nothing here.
            Err(error) => tracing::warn!(%error, "watch ModelReplicas of {node}"),
        }
    }
}

/// What the watch has told.
#[derive(Debug, Default)]
pub struct Table {
    /// By namespace and name.
    pub known: BTreeMap<Key, ModelReplica>,
    /// A new list on its way.
    fresh: BTreeMap<Key, ModelReplica>,
}

impl Table {
    /// Takes an event; answers whether the table may have changed.
    pub fn take(&mut self, event: watcher::Event<ModelReplica>) -> bool {
        match event {
            watcher::Event::Init => self.fresh.clear(),
            watcher::Event::InitApply(replica) => {
                self.fresh.insert(key(&replica), replica);
            }
            watcher::Event::InitDone => {
                self.known = std::mem::take(&mut self.fresh);
                return true;
            }
            watcher::Event::Apply(replica) => {
                self.known.insert(key(&replica), replica);
                return true;
            }
            watcher::Event::Delete(replica) => {
                self.known.remove(&key(&replica));
                return true;
            }
        }
        false
    }
}

struct Writer {
    client: Client,
    recorder: Recorder,
    /// What was written over which version: the watch shows it a little later.
    written: BTreeMap<Key, Written>,
}

/// The resourceVersion over which a status was written, and the status.
pub type Written = (Option<String>, ModelReplicaStatus);

/// What is to be written about a replica.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and gone with its call")]
pub enum Due {
    /// The API server has it all, or is about to show it.
    Nothing,
    /// This patch: the finalizer goes.
    Release(Value),
    /// This status, to be remembered as written.
    Status(Written),
}

/// What is to be written about `replica` for what is `reported` of it, after what was `written` last.
pub fn due(replica: &ModelReplica, reported: &Reported, written: Option<&Written>) -> Due {
    // Another object of the same name is not meant.
    if reported.uid != replica.metadata.uid {
        return Due::Nothing;
    }
    if reported.engine_released {
        return without_finalizer(replica).map_or(Due::Nothing, Due::Release);
    }
    let known = (replica.metadata.resource_version.clone(), reported.status.clone());
    if replica.status.as_ref() == Some(&reported.status) || written == Some(&known) {
        return Due::Nothing;
    }
    Due::Status(known)
}

impl Writer {
    fn new(client: Client, node: &str) -> Self {
        let reporter = Reporter {
            controller: AGENT_MANAGER.into(),
            instance: Some(node.to_owned()),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            written: BTreeMap::new(),
        }
    }

    async fn run(
        mut self,
        mut desired: watch::Receiver<Vec<ModelReplica>>,
        mut statuses: watch::Receiver<Statuses>,
    ) {
        loop {
            let replicas = desired.borrow_and_update().clone();
            let reported = statuses.borrow_and_update().clone();
            let failed = !self.round(&replicas, &reported).await;
            let again = async {
                if failed {
                    tokio::time::sleep(RETRY).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                changed = desired.changed() => if changed.is_err() { return },
                changed = statuses.changed() => if changed.is_err() { return },
                () = again => {}
            }
        }
    }

    /// Writes what is news; answers whether all of it is written.
    async fn round(&mut self, replicas: &[ModelReplica], reported: &Statuses) -> bool {
        self.written.retain(|key, _| reported.contains_key(key));
        let mut all = true;
        for replica in replicas {
            let Some(reported) = reported.get(&key(replica)) else {
                continue;
            };
            if let Err(error) = self.write(replica, reported).await {
                tracing::warn!("{error}; tried again");
                all = false;
                // The others would wait as long each, and what they say would be old by then.
                if matches!(error, ApiError::Silent { .. }) {
                    break;
                }
            }
        }
        all
    }

    async fn write(&mut self, replica: &ModelReplica, reported: &Reported) -> Result<(), ApiError> {
        let (namespace, name) = key(replica);
        let api: Api<ModelReplica> = Api::namespaced(self.client.clone(), &namespace);
        let due = due(
            replica,
            reported,
            self.written.get(&(namespace.clone(), name.clone())),
        );
        if let Due::Release(patch) = due {
            let what = format!("remove the finalizer of ModelReplica {namespace}/{name}");
            // Already gone is what was wanted; a conflict means that the watch has news for us.
            return match find(
                what,
                api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)),
            )
            .await
            {
                Err(error) if error.status() == Some(409) => Ok(()),
                Err(error) => Err(error),
                Ok(_) => Ok(()),
            };
        }
        let Due::Status(known) = due else {
            return Ok(());
        };
        let what = format!("write the status of ModelReplica {namespace}/{name}");
        let write = afterglow_crds::status::write(&api, replica, &reported.status, AGENT_MANAGER);
        if call(what, write).await?.is_none() {
            // Gone, or another by now: the watch will tell.
            return Ok(());
        }
        self.written.insert((namespace, name), known);
        self.tell(replica, &reported.status).await;
        Ok(())
    }

    /// An event where something went wrong that had not, and when it is right.
    async fn tell(&self, replica: &ModelReplica, status: &ModelReplicaStatus) {
        let Some(event) = news(replica.status.as_ref(), status) else {
            return;
        };
        let about = replica.object_ref(&());
        if let Err(error) = call("publish an event", self.recorder.publish(&event, &about)).await {
            tracing::debug!("{error}");
        }
    }
}

fn news(old: Option<&ModelReplicaStatus>, new: &ModelReplicaStatus) -> Option<Event> {
    let new = condition::find(&new.conditions, READY)?;
    let old = old.and_then(|old| condition::find(&old.conditions, READY));
    let fine = FINE.contains(&new.reason.as_str());
    if old.is_some_and(|old| old.reason == new.reason) || (fine && new.reason != "Ready") {
        return None;
    }
    Some(Event {
        type_: if fine {
            EventType::Normal
        } else {
            EventType::Warning
        },
        reason: new.reason.clone(),
        note: Some(new.message.chars().take(LONGEST_NOTE).collect()),
        action: "Host".to_owned(),
        secondary: None,
    })
}

/// The patch that takes our finalizer off, and only if nobody has changed the object since; `None` if it is off.
fn without_finalizer(replica: &ModelReplica) -> Option<Value> {
    let metadata = &replica.metadata;
    let finalizers = metadata.finalizers.as_ref()?;
    let rest: Vec<&String> = finalizers
        .iter()
        .filter(|finalizer| *finalizer != REPLICA_FINALIZER)
        .collect();
    (rest.len() < finalizers.len()).then(|| {
        json!({"metadata": {
            "uid": metadata.uid, "resourceVersion": metadata.resource_version, "finalizers": rest,
        }})
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use afterglow_crds::condition::{State, set};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn replica(name: &str, cluster: &str) -> ModelReplica {
        serde_json::from_value(json!({
            "apiVersion": "afterglow.dev/v1alpha1", "kind": "ModelReplica",
            "metadata": {
                "name": name, "namespace": "team", "uid": "u", "resourceVersion": "7",
                "finalizers": ["other/x", REPLICA_FINALIZER],
            },
            "spec": {
                "cluster": cluster, "nodeName": "n", "device": "gpu-0", "revision": 1, "memory": "1Gi",
                "model": {"source": {"uri": "https://h/m.onnx", "digest": "sha256:0"}}
            }
        }))
        .unwrap()
    }

    #[test]
    fn a_list_takes_the_place_of_what_was_known_only_when_it_is_whole() {
        use watcher::Event as E;
        let mut table = Table::default();
        assert!(table.take(E::Apply(replica("old", "c"))));
        assert!(!table.take(E::Init));
        assert!(!table.take(E::InitApply(replica("new", "c"))));
        assert_eq!(
            table.known.keys().map(|key| key.1.as_str()).collect::<Vec<_>>(),
            ["old"]
        );
        assert!(table.take(E::InitDone));
        assert_eq!(
            table.known.keys().map(|key| key.1.as_str()).collect::<Vec<_>>(),
            ["new"]
        );
        assert!(table.take(E::Delete(replica("new", "c"))));
        assert!(table.known.is_empty());
    }

    #[test]
    fn only_our_finalizer_goes_and_only_from_the_object_that_was_seen() {
        let patch = without_finalizer(&replica("m", "c")).unwrap();
        assert_eq!(
            patch,
            json!({"metadata": {"uid": "u", "resourceVersion": "7", "finalizers": ["other/x"]}})
        );
        let mut off = replica("m", "c");
        off.metadata.finalizers = Some(vec!["other/x".into()]);
        assert_eq!(without_finalizer(&off), None);
    }

    #[test]
    fn events_tell_of_failures_and_of_readiness_and_of_each_once() {
        let status = |ready: bool, reason: &str| ModelReplicaStatus {
            conditions: set(
                &[],
                &[State::new(READY, ready, reason, "m")],
                None,
                Time(jiff::Timestamp::UNIX_EPOCH),
            ),
            ..ModelReplicaStatus::default()
        };
        let kind = |old: Option<&ModelReplicaStatus>, new| news(old, &new).map(|event| event.type_);
        assert_eq!(kind(None, status(false, "Fetching")), None);
        assert_eq!(
            kind(None, status(false, "SourceNotFound")),
            Some(EventType::Warning)
        );
        let failed = status(false, "SourceNotFound");
        assert_eq!(kind(Some(&failed), status(false, "SourceNotFound")), None);
        assert_eq!(
            kind(Some(&failed), status(true, "Ready")),
            Some(EventType::Normal)
        );
    }

    #[tokio::test]
    async fn an_api_server_that_says_nothing_is_waited_for_once_and_not_for_each_replica() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let service = tower::service_fn(move |_: axum::http::Request<kube::client::Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<Result<axum::http::Response<kube::client::Body>, std::convert::Infallible>>(
            )
        });
        let replicas = [replica("a", "c"), replica("b", "c")];
        let reported = Reported {
            uid: Some("u".into()),
            status: ModelReplicaStatus::default(),
            engine_released: false,
        };
        let statuses: Statuses = replicas
            .iter()
            .map(|replica| (key(replica), reported.clone()))
            .collect();
        let mut writer = Writer::new(Client::new(service, "default"), "n");
        assert!(!writer.round(&replicas, &statuses).await);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
