//! The agent's sign of life. The operator takes a node's models elsewhere when it has not been renewed for 30 s, so it says
//! no more than this: the agent runs and reaches the API server.

use std::time::Duration;

use afterglow_crds::labels::{self, AGENT_MANAGER, CLUSTER};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::kube::call;

const RENEW: Duration = Duration::from_secs(10);
/// A renewal that failed is tried again sooner: three fit before the agent counts as dead.
const RETRY: Duration = Duration::from_secs(3);
const DEAD_AFTER: i32 = 30;

/// Who renews what.
#[derive(Debug, Clone)]
pub struct Sign {
    /// The node.
    pub node: String,
    /// Its UID, once the node is ours: the lease goes with it.
    pub node_uid: watch::Receiver<Option<String>>,
    /// Namespace of the lease.
    pub namespace: String,
    /// The `InferenceCluster`.
    pub cluster: String,
    /// Names this agent among all that ever ran here.
    pub holder: String,
}

/// Renews until it is told to stop. It begins when the node is ours, and ends without a word: silence is the message.
pub async fn keep(client: Client, mut sign: Sign, shutdown: CancellationToken) {
    let leases: Api<Lease> = Api::namespaced(client, &sign.namespace);
    let name = labels::lease(&sign.node);
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let uid = sign.node_uid.borrow_and_update().clone();
        let Some(uid) = uid else {
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = sign.node_uid.changed() => if changed.is_err() { return },
            }
            continue;
        };
        let lease = lease(&name, &sign, &uid, Timestamp::now());
        let patch = PatchParams::apply(AGENT_MANAGER).force();
        let body = Patch::Apply(&lease);
        let renewed = call(
            format!("renew Lease {}/{name}", sign.namespace),
            leases.patch(&name, &patch, &body),
        );
        wait = match renewed.await {
            Ok(_) => RENEW,
            Err(error) => {
                tracing::warn!(%error, "the operator will take this node for dead if this goes on");
                RETRY
            }
        };
    }
}

fn lease(name: &str, sign: &Sign, node_uid: &str, now: Timestamp) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": sign.namespace,
            "labels": {CLUSTER: sign.cluster},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": sign.node, "uid": node_uid}],
        },
        "spec": {
            "holderIdentity": sign.holder,
            "leaseDurationSeconds": DEAD_AFTER,
            "renewTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(now),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_names_its_node_and_the_moment() {
        let sign = Sign {
            node: "rig-1".into(),
            node_uid: watch::channel(None).1,
            namespace: "afterglow-system".into(),
            cluster: "lab".into(),
            holder: "lab/agent-x".into(),
        };
        let lease: Lease =
            serde_json::from_value(lease("afterglow-node-rig-1", &sign, "u", Timestamp::UNIX_EPOCH)).unwrap();
        let spec = lease.spec.unwrap();
        assert_eq!(spec.lease_duration_seconds, Some(30));
        assert_eq!(spec.renew_time.unwrap().0, Timestamp::UNIX_EPOCH);
        assert_eq!(lease.metadata.owner_references.unwrap()[0].name, "rig-1");
    }
}
