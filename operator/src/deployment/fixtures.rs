//! A deployment, its nodes and its replicas, for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use afterglow_crds::{GpuNode, ModelReplica, labels};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::check::check;
use super::gather::{Facts, Machine, Unreadable};
use super::plan::{Applied, Plan, Wanted, plan};
use crate::liveness::Judgement;

pub(super) const UID: &str = "11111111-1111-1111-1111-111111111111";
/// A gibibyte.
pub(super) const GI: u64 = 1 << 30;

pub(crate) fn replica(name: &str, revision: i64, node: &str, device: &str) -> ModelReplica {
    object(json!({
        "apiVersion": "afterglow.dev/v1alpha1",
        "kind": "ModelReplica",
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": name,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": { labels::DEPLOYMENT: "bert" },
            "ownerReferences": [{ "apiVersion": "afterglow.dev/v1alpha1", "kind": "ModelDeployment", "name": "bert", "uid": UID }],
        },
        "spec": {
            "cluster": "default",
            "nodeName": node,
            "device": device,
            "revision": revision,
            "memory": "512Mi",
            "model": { "name": "bert", "source": { "uri": "https://x/m.onnx", "digest": "sha256:0" } },
        },
    }))
}

pub(super) fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the fixture is well-formed")
}

/// A replica that says so.
pub(super) fn saying(mut replica: ModelReplica, status: &str, reason: &str, message: &str) -> ModelReplica {
    replica.status = Some(object(json!({
        "conditions": [{
            "type": "Ready", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:10Z",
        }],
    })));
    replica
}

pub(super) fn ready(replica: ModelReplica) -> ModelReplica {
    saying(replica, "True", "Ready", "It serves.")
}

/// A node with one card per size.
pub(super) fn gpu_node(name: &str, cards: &[u64]) -> GpuNode {
    let devices: Vec<Value> = cards
        .iter()
        .enumerate()
        .map(|(index, bytes)| {
            json!({
                "name": format!("gpu-{index}"), "type": "GPU", "family": "Polaris", "productName": "RX 580",
                "memory": bytes.to_string(), "offered": true,
            })
        })
        .collect();
    object(json!({
        "apiVersion": "afterglow.dev/v1alpha1",
        "kind": "GpuNode",
        "metadata": { "name": name },
        "spec": { "cluster": "default" },
        "status": { "devices": devices },
    }))
}

/// `bert` in `team`, on nodes whose agents are all alive.
pub(crate) fn facts(spec: Value, nodes: Vec<GpuNode>) -> Facts {
    let mut whole = json!({
        "model": { "source": { "uri": "https://x/m.onnx", "digest": "sha256:0" } },
    });
    if let (Value::Object(whole), Value::Object(spec)) = (&mut whole, spec) {
        whole.extend(spec);
    }
    let names: Vec<String> = nodes.iter().map(ResourceExt::name_any).collect();
    Facts {
        deployment: object(json!({
            "apiVersion": "afterglow.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {
                "name": "bert", "namespace": "team", "uid": UID, "generation": 1,
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": whole,
        })),
        cluster: Some(object(json!({
            "apiVersion": "afterglow.dev/v1alpha1",
            "kind": "InferenceCluster",
            "metadata": { "name": "default" },
            "spec": {},
            "status": { "conditions": [{
                "type": "Progressing", "status": "False", "reason": "AgentsRun", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }] },
        }))),
        namespace_labels: BTreeMap::new(),
        rivals: Vec::new(),
        own: Vec::new(),
        all: Vec::new(),
        taken_names: std::collections::BTreeSet::new(),
        nodes: names
            .iter()
            .map(|name| (name.clone(), Machine::default()))
            .collect(),
        gpu_nodes: nodes,
        judgement: Arc::new(Judgement {
            alive: names.into_iter().collect(),
            dead: std::collections::BTreeSet::new(),
        }),
        unreadable: Unreadable::default(),
    }
}

pub(super) fn with(mut facts: Facts, replicas: Vec<ModelReplica>) -> Facts {
    facts.taken_names = replicas.iter().map(ResourceExt::name_any).collect();
    facts.all = replicas.clone();
    facts.own = replicas;
    facts
}

/// One whose replicas are of the template as it stands, which is this revision.
pub(super) fn settled(mut facts: Facts, revision: i64) -> Facts {
    let hash = turn(&facts).revision.hash;
    facts.deployment.status = Some(object(json!({ "revision": revision, "templateHash": hash })));
    facts
}

/// As if the API server had done all of it.
pub(super) fn done(plan: Plan<Wanted>) -> Plan<Applied> {
    let (made, because, errors) = (plan.create.clone(), plan.because.clone(), plan.errors.clone());
    plan.applied(made, because, errors)
}

pub(super) fn turn(facts: &Facts) -> Plan<Wanted> {
    plan(facts, check(facts))
}
