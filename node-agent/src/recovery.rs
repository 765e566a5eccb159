//! When an agent that was started anew is ready: when the cluster knows its devices, and the models that it served before answer
//! again.
//!
//! A roll-out of the agents goes on to the next node when this one is ready. If that were before its models are back, both
//! replicas of a model could be away at once. What fails for a reason of its own is not waited for, and nothing for ever: a broken
//! model stops no roll-out. Once ready, an agent stays so whatever becomes of its models: that is for their own conditions.

use std::collections::BTreeMap;
use std::time::Duration;

use afterglow_crds::condition::{self, READY};
use afterglow_crds::model_replica::ModelReplica;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::Readiness;
use crate::host::{Key, Statuses, key};

/// From its devices' being known, an agent waits so long for its models: as long as a model may take to be tried.
const PATIENCE: Duration = Duration::from_mins(5);
/// A model that is on its way to answering.
const UNDER_WAY: [&str; 3] = ["Fetching", "Probing", "Loading"];
/// … and one whose engine died: it is loaded again by itself.
const AGAIN: &str = "EngineFailed";

/// What readiness is made of.
pub struct Facts {
    /// Whether the cluster knows of the devices.
    pub announced: watch::Receiver<Readiness>,
    /// The node's replicas, as the API server shows them. Nothing must have been sent before this receiver was made.
    pub desired: watch::Receiver<Vec<ModelReplica>>,
    /// What is so of them.
    pub statuses: watch::Receiver<Statuses>,
}

/// Says in `ready` whether the agent is, until `stop`.
pub async fn follow(facts: Facts, ready: watch::Sender<Readiness>, stop: CancellationToken) {
    stop.run_until_cancelled(say(facts, &ready, PATIENCE)).await;
}

async fn say(facts: Facts, ready: &watch::Sender<Readiness>, patience: Duration) {
    let Facts {
        mut announced,
        mut desired,
        statuses,
    } = facts;
    // Before this agent writes anything about them: it would begin with saying that they do not answer.
    let listed = async {
        desired
            .changed()
            .await
            .map(|()| served(&desired.borrow_and_update()))
    };
    let (listed, ()) = tokio::join!(listed, until_announced(&mut announced, ready));
    let Ok(served) = listed else { return };
    let back = until_back(&served, &mut desired, statuses, ready);
    if tokio::time::timeout(patience, back).await.is_err() {
        tracing::warn!(
            "models that were served here do not answer again in {patience:?}; ready without them"
        );
    }
    loop {
        tell(ready, announced.borrow_and_update().clone());
        if announced.changed().await.is_err() {
            return;
        }
    }
}

fn tell(ready: &watch::Sender<Readiness>, now: Readiness) {
    ready.send_if_modified(|said| {
        let news = *said != now;
        *said = now;
        news
    });
}

async fn until_announced(announced: &mut watch::Receiver<Readiness>, ready: &watch::Sender<Readiness>) {
    loop {
        let now = announced.borrow_and_update().clone();
        if now.is_ok() {
            return;
        }
        tell(ready, now);
        if announced.changed().await.is_err() {
            return;
        }
    }
}

async fn until_back(
    served: &Served,
    desired: &mut watch::Receiver<Vec<ModelReplica>>,
    mut statuses: watch::Receiver<Statuses>,
    ready: &watch::Sender<Readiness>,
) {
    loop {
        let missing = missing(
            served,
            &desired.borrow_and_update(),
            &statuses.borrow_and_update(),
        );
        if missing.is_empty() {
            return;
        }
        let names: Vec<String> = missing
            .iter()
            .map(|(namespace, name)| format!("{namespace}/{name}"))
            .collect();
        let why = format!(
            "models that were served here before are being loaded again: {}",
            names.join(", ")
        );
        tell(ready, Err(why));
        let changed = tokio::select! {
            changed = desired.changed() => changed,
            changed = statuses.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Replicas that the agent before this one served, or had tried and was loading; with their uids.
type Served = BTreeMap<Key, Option<String>>;

fn served(replicas: &[ModelReplica]) -> Served {
    let was = |replica: &&ModelReplica| {
        let Some(status) = &replica.status else {
            return false;
        };
        let Some(ready) = condition::find(&status.conditions, READY) else {
            return false;
        };
        let tried = status.profile.is_some() && UNDER_WAY.contains(&ready.reason.as_str());
        ready.status == "True" || tried
    };
    let stays = |replica: &&ModelReplica| replica.metadata.deletion_timestamp.is_none();
    let replicas = replicas.iter().filter(stays).filter(was);
    replicas
        .map(|replica| (key(replica), replica.metadata.uid.clone()))
        .collect()
}

/// Those of them that are still to come.
fn missing(served: &Served, desired: &[ModelReplica], statuses: &Statuses) -> Vec<Key> {
    let same = |replica: &&ModelReplica| served.get(&key(replica)) == Some(&replica.metadata.uid);
    let stays = |replica: &&ModelReplica| replica.metadata.deletion_timestamp.is_none();
    let wanted = desired.iter().filter(same).filter(stays);
    let missing = wanted.filter(|replica| !settled(replica, statuses));
    missing.map(key).collect()
}

/// Whether a replica answers, and everybody can know it, or has failed for a reason of its own.
fn settled(replica: &ModelReplica, statuses: &Statuses) -> bool {
    let reported = statuses.get(&key(replica));
    let Some(reported) = reported.filter(|reported| reported.uid == replica.metadata.uid) else {
        return false;
    };
    let Some(ready) = condition::find(&reported.status.conditions, READY) else {
        return false;
    };
    if ready.status == "True" {
        // The agent before us may have been the last who wrote that, of an engine that is gone.
        return replica.status.as_ref().is_some_and(|shown| {
            condition::is_true(&shown.conditions, READY) && shown.endpoint == reported.status.endpoint
        });
    }
    ready.reason != AGAIN && !UNDER_WAY.contains(&ready.reason.as_str())
}

#[cfg(test)]
mod tests {
    use afterglow_crds::condition::{State, set};
    use afterglow_crds::model_replica::{Endpoint, ModelReplicaStatus, Profile};
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::host::Reported;

    const EVER: Duration = Duration::from_mins(1);

    fn status(reason: &str, endpoint: &str) -> ModelReplicaStatus {
        let ready = State::new(READY, reason == "Ready", reason, "m");
        ModelReplicaStatus {
            conditions: set(&[], &[ready], None, Time(jiff::Timestamp::UNIX_EPOCH)),
            endpoint: (!endpoint.is_empty()).then(|| Endpoint {
                grpc: endpoint.to_owned(),
                http: endpoint.to_owned(),
                model: "team.m".to_owned(),
            }),
            profile: Some(Profile {
                memory: Quantity("1Gi".to_owned()),
                load_milliseconds: 1,
                device_nodes: 1,
                cpu_nodes: 0,
                latencies: Vec::new(),
            }),
            ..ModelReplicaStatus::default()
        }
    }

    fn replica(name: &str, status: Option<ModelReplicaStatus>) -> ModelReplica {
        let mut replica: ModelReplica = serde_json::from_value(serde_json::json!({
            "apiVersion": "afterglow.dev/v1alpha1", "kind": "ModelReplica",
            "metadata": {"name": name, "namespace": "team", "uid": "u"},
            "spec": {
                "cluster": "c", "nodeName": "n", "device": "gpu-0", "revision": 1, "memory": "1Gi",
                "model": {"source": {"uri": "https://h/m.onnx", "digest": "sha256:0"}}
            }
        }))
        .unwrap();
        replica.status = status;
        replica
    }

    fn reported(name: &str, status: ModelReplicaStatus) -> Statuses {
        let reported = Reported {
            uid: Some("u".into()),
            status,
            engine_released: false,
        };
        [(("team".to_owned(), name.to_owned()), reported)].into()
    }

    fn is_awaited(replica: ModelReplica) -> bool {
        !served(&[replica]).is_empty()
    }

    #[test]
    fn what_was_served_is_waited_for_and_what_never_was_or_had_failed_is_not() {
        assert!(is_awaited(replica("m", Some(status("Ready", "old")))));
        assert!(
            is_awaited(replica("m", Some(status("Loading", "")))),
            "an agent that ended a second time"
        );
        let mut new = status("Fetching", "");
        new.profile = None;
        assert!(!is_awaited(replica("m", Some(new))), "nobody misses it yet");
        assert!(!is_awaited(replica("m", None)));
        assert!(!is_awaited(replica("m", Some(status("OutOfMemory", "")))));
        let mut leaving = replica("m", Some(status("Ready", "old")));
        leaving.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        assert!(!is_awaited(leaving));
    }

    #[test]
    fn a_model_is_back_when_everybody_can_know_where_it_answers() {
        let before = replica("m", Some(status("Ready", "old")));
        let served = served(std::slice::from_ref(&before));
        let is_back = |shown: &ModelReplica, said: &Statuses| {
            missing(&served, std::slice::from_ref(shown), said).is_empty()
        };
        assert!(!is_back(&before, &Statuses::new()));
        assert!(!is_back(&before, &reported("m", status("Loading", ""))));
        let again = reported("m", status("Ready", "new"));
        assert!(!is_back(&before, &again), "schedulers would ask where nobody is");
        let shown = replica("m", Some(status("Ready", "new")));
        assert!(is_back(&shown, &again));
        let mut another = replica("m", Some(status("Ready", "old")));
        another.metadata.uid = Some("v".into());
        assert!(is_back(&another, &Statuses::new()), "another one of that name");
        assert!(missing(&served, &[], &again).is_empty(), "moved away");
    }

    #[test]
    fn a_model_that_fails_for_a_reason_of_its_own_is_not_waited_for() {
        let before = [replica("m", Some(status("Ready", "old")))];
        let served = served(&before);
        for (reason, waits) in [
            ("Probing", true),
            ("EngineFailed", true),
            ("ProbeMismatch", false),
            ("DeviceUnhealthy", false),
            ("SourceNotFound", false),
        ] {
            let said = reported("m", status(reason, ""));
            assert_eq!(!missing(&served, &before, &said).is_empty(), waits, "{reason}");
        }
    }

    /// An agent that has just started: its ends of the wires, and what it says.
    fn start(
        patience: Duration,
    ) -> (
        watch::Sender<Readiness>,
        watch::Sender<Vec<ModelReplica>>,
        watch::Sender<Statuses>,
        watch::Receiver<Readiness>,
    ) {
        let (announced_out, announced) = watch::channel(Err("starting".to_owned()));
        let (desired_out, desired) = watch::channel(Vec::new());
        let (statuses_out, statuses) = watch::channel(Statuses::new());
        let (ready_out, ready) = watch::channel(Err("starting".to_owned()));
        let facts = Facts {
            announced,
            desired,
            statuses,
        };
        tokio::spawn(async move { say(facts, &ready_out, patience).await });
        (announced_out, desired_out, statuses_out, ready)
    }

    #[tokio::test]
    async fn an_agent_is_ready_when_its_devices_are_known_and_its_models_are_back_and_stays_so() {
        let (announced, desired, statuses, mut ready) = start(EVER);
        announced.send(Err("tested".to_owned())).unwrap();
        let said = ready.wait_for(|ready| *ready == Err("tested".to_owned())).await;
        drop(said.unwrap());
        desired.send_replace(vec![replica("m", Some(status("Ready", "old")))]);
        announced.send(Ok(())).unwrap();
        let waits = |ready: &Readiness| matches!(ready, Err(why) if why.contains("team/m"));
        drop(ready.wait_for(waits).await.unwrap());
        statuses.send_replace(reported("m", status("Ready", "new")));
        desired.send_replace(vec![replica("m", Some(status("Ready", "new")))]);
        drop(ready.wait_for(Result::is_ok).await.unwrap());
        // It dies later: no reason to take the agent for one that is only starting.
        statuses.send_replace(reported("m", status("EngineFailed", "")));
        announced.send(Err("the node is another's".to_owned())).unwrap();
        drop(ready.wait_for(Result::is_err).await.unwrap());
        announced.send(Ok(())).unwrap();
        drop(ready.wait_for(Result::is_ok).await.unwrap());
    }

    #[tokio::test]
    async fn a_model_that_never_comes_back_does_not_keep_its_agent_for_ever() {
        let (announced, desired, _statuses, mut ready) = start(Duration::from_millis(20));
        desired.send_replace(vec![replica("m", Some(status("Ready", "old")))]);
        announced.send(Ok(())).unwrap();
        drop(ready.wait_for(Result::is_ok).await.unwrap());
    }

    #[tokio::test]
    async fn an_agent_without_models_is_ready_with_its_devices() {
        let (announced, desired, _statuses, mut ready) = start(EVER);
        desired.send_replace(Vec::new());
        announced.send(Ok(())).unwrap();
        drop(ready.wait_for(Result::is_ok).await.unwrap());
    }
}
