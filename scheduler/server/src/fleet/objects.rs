//! The fleet as the objects say it: `(replicas, nodes, deployments) → Fleet`.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use afterglow_crds::condition::{self, READY};
use afterglow_crds::gpu_node::{Device, DeviceType};
use afterglow_crds::{GpuNode, ModelDeployment, ModelReplica};
use kube::ResourceExt as _;

use super::{Fleet, Model, Replica, Unready};

/// Builds the view of one cluster. A replica can answer when it is Ready, has an endpoint and is not being deleted.
pub fn from_objects(
    cluster: &str,
    replicas: &[impl Borrow<ModelReplica>],
    nodes: &[impl Borrow<GpuNode>],
    deployments: &[impl Borrow<ModelDeployment>],
) -> Fleet {
    let mut fleet = Fleet {
        known: true,
        ..Fleet::default()
    };
    let mut devices: BTreeMap<(String, String), &Device> = BTreeMap::new();
    for node in nodes.iter().map(Borrow::borrow) {
        let Some(status) = node.status.as_ref().filter(|_| node.spec.cluster == cluster) else {
            continue;
        };
        let name = node.name_any();
        for device in &status.devices {
            devices.insert((name.clone(), device.name.clone()), device);
        }
        if let Some(address) = &status.address {
            fleet.load.insert(name, address.clone());
        }
    }
    // Deployments first: a model without replicas is known, and its condition says why it has none.
    for deployment in deployments.iter().map(Borrow::borrow) {
        if deployment.spec.cluster != cluster || deployment.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let name = deployment.spec.model.name.clone();
        let name = name.unwrap_or_else(|| deployment.name_any());
        let ready = deployment
            .status
            .as_ref()
            .and_then(|status| condition::find(&status.conditions, READY));
        let model = entry(&mut fleet, deployment.namespace(), name);
        if let Some(ready) = ready.filter(|ready| ready.status != "True") {
            model.unready.push(Unready {
                id: id(deployment),
                revision: None,
                reason: ready.reason.clone(),
                message: ready.message.clone(),
            });
        }
    }
    for replica in replicas.iter().map(Borrow::borrow) {
        if replica.spec.cluster != cluster {
            continue;
        }
        let name = replica.spec.model.name.clone();
        let name = name.unwrap_or_else(|| replica.name_any());
        let model = entry(&mut fleet, replica.namespace(), name);
        match able(replica, &devices) {
            Ok(replica) => model.ready.push(Arc::new(replica)),
            Err(unready) => model.unready.push(unready),
        }
    }
    for model in fleet.models.values_mut().flat_map(BTreeMap::values_mut) {
        model.ready.sort_by(|a, b| a.id.cmp(&b.id));
        // What a replica says is nearer to the cause than what its deployment makes of it.
        model
            .unready
            .sort_by(|a, b| (a.revision.is_none(), &a.id).cmp(&(b.revision.is_none(), &b.id)));
    }
    fleet
}

fn entry(fleet: &mut Fleet, namespace: Option<String>, name: String) -> &mut Model {
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    fleet
        .models
        .entry(namespace)
        .or_default()
        .entry(name)
        .or_default()
}

fn id(object: &impl kube::ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

fn able(replica: &ModelReplica, devices: &BTreeMap<(String, String), &Device>) -> Result<Replica, Unready> {
    let unready = |reason: &str, message: &str| Unready {
        id: id(replica),
        revision: Some(replica.spec.revision),
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    if replica.metadata.deletion_timestamp.is_some() {
        return Err(unready("Draining", "it is being deleted"));
    }
    let Some(status) = &replica.status else {
        return Err(unready("Pending", "its node's agent has not taken it up yet"));
    };
    if !condition::is_true(&status.conditions, READY) {
        let condition = condition::find(&status.conditions, READY);
        return Err(condition.map_or_else(
            || unready("Pending", "its node's agent has not taken it up yet"),
            |condition| unready(&condition.reason, &condition.message),
        ));
    }
    let Some(endpoint) = &status.endpoint else {
        return Err(unready("Pending", "it has no endpoint yet"));
    };
    let device = devices.get(&(replica.spec.node_name.clone(), replica.spec.device.clone()));
    let measured = device.map(|device| &device.self_test);
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
    let latency = status.profile.as_ref().and_then(|profile| {
        let smallest = profile.latencies.iter().min_by_key(|latency| latency.batch)?;
        let rows = i64::from(smallest.batch.max(1));
        u64::try_from(smallest.p50_microseconds / rows).ok()
    });
    let kind = status.device_type.or(device.map(|device| device.type_));
    Ok(Replica {
        id: id(replica),
        engine_model: endpoint.model.clone(),
        grpc: endpoint.grpc.clone(),
        http: endpoint.http.clone(),
        revision: replica.spec.revision,
        node: replica.spec.node_name.clone(),
        device: replica.spec.device.clone(),
        on_cpu: kind == Some(DeviceType::Cpu),
        row_microseconds: latency.unwrap_or(0),
        gflops: positive(measured.and_then(|test| test.gflops)),
        upload_bytes_per_second: positive(measured.and_then(|test| test.upload_mb_per_second))
            .saturating_mul(1_000_000),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn replica(name: &str, change: impl FnOnce(&mut Value)) -> ModelReplica {
        let mut value = json!({
            "apiVersion": "afterglow.dev/v1alpha1", "kind": "ModelReplica",
            "metadata": {"name": name, "namespace": "team"},
            "spec": {
                "cluster": "main", "nodeName": "n1", "device": "gpu-0", "revision": 3, "memory": "1Gi",
                "model": {"name": "m", "source": {"uri": "https://h/m.onnx", "digest": "sha256:0"}},
            },
            "status": {
                "endpoint": {"grpc": "10.0.0.1:9500", "http": "10.0.0.1:9501", "model": format!("team.{name}")},
                "deviceType": "GPU",
                "profile": {
                    "memory": "1Gi", "loadMilliseconds": 5, "deviceNodes": 1, "cpuNodes": 0,
                    "latencies": [{"batch": 8, "p50Microseconds": 4000}, {"batch": 1, "p50Microseconds": 900}],
                },
                "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            },
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    fn node() -> GpuNode {
        serde_json::from_value(json!({
            "apiVersion": "afterglow.dev/v1alpha1", "kind": "GpuNode", "metadata": {"name": "n1"},
            "spec": {"cluster": "main"},
            "status": {"address": "10.0.0.1:9400", "devices": [{
                "name": "gpu-0", "type": "GPU", "productName": "RX", "memory": "8Gi", "offered": true,
                "selfTest": {"result": "Passed", "gflops": 4000, "uploadMbPerSecond": 390},
            }]},
        }))
        .unwrap()
    }

    fn fleet(replica: ModelReplica) -> Fleet {
        from_objects("main", &[replica], &[node()], &[] as &[ModelDeployment])
    }

    #[test]
    fn a_ready_replica_is_picked_from_with_what_was_measured_of_it_and_its_device() {
        let fleet = fleet(replica("a", |_| {}));
        let model = fleet.model("team", "m").unwrap();
        assert!(model.unready.is_empty());
        let replica = &model.ready[0];
        assert_eq!(replica.id, "team/a");
        assert_eq!(replica.engine_model, "team.a");
        assert_eq!((replica.revision, replica.on_cpu), (3, false));
        assert_eq!((replica.row_microseconds, replica.gflops), (900, 4000));
        assert_eq!(replica.upload_bytes_per_second, 390_000_000);
        assert_eq!(fleet.load["n1"], "10.0.0.1:9400");
    }

    #[test]
    fn what_leaves_or_is_not_ready_is_not_picked_and_says_why() {
        type Change = fn(&mut Value);
        let table: [(Change, &str); 4] = [
            (
                |value| value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
                "Draining",
            ),
            (|value| value["status"] = Value::Null, "Pending"),
            (|value| value["status"]["endpoint"] = Value::Null, "Pending"),
            (
                |value| {
                    value["status"]["conditions"][0]["status"] = json!("False");
                    value["status"]["conditions"][0]["reason"] = json!("DigestMismatch");
                },
                "DigestMismatch",
            ),
        ];
        for (change, reason) in table {
            let fleet = fleet(replica("a", change));
            let model = fleet.model("team", "m").unwrap();
            assert!(model.ready.is_empty(), "{reason}");
            assert_eq!(model.unready[0].reason, reason);
            assert!(
                model.because(None).starts_with(&format!("team/a: {reason}")),
                "{}",
                model.because(None)
            );
        }
    }

    #[test]
    fn other_clusters_are_not_seen() {
        let fleet = fleet(replica("a", |value| value["spec"]["cluster"] = json!("other")));
        assert!(fleet.models.is_empty());
    }

    #[test]
    fn a_deployment_without_replicas_is_a_known_model_with_a_reason() {
        let deployment: ModelDeployment = serde_json::from_value(json!({
            "apiVersion": "afterglow.dev/v1alpha1", "kind": "ModelDeployment",
            "metadata": {"name": "d", "namespace": "team"},
            "spec": {"cluster": "main",
                "model": {"source": {"uri": "https://h/m.onnx", "digest": "sha256:0"}}},
            "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "NoDevice",
                "message": "no device has 4Gi free", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap();
        let none: [ModelReplica; 0] = [];
        let fleet = from_objects("main", &none, &[node()], &[deployment]);
        let model = fleet.model("team", "d").unwrap();
        assert_eq!(model.because(None), "team/d: NoDevice: no device has 4Gi free");
        assert!(model.revisions().is_empty());
    }
}
