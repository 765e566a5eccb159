//! Fixtures.

use afterglow_crds::ModelReplica;

pub(crate) fn replica(name: &str, revision: i64, node: &str, device: &str) -> ModelReplica {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "afterglow.dev/v1alpha1",
        "kind": "ModelReplica",
        "metadata": { "name": name, "namespace": "team" },
        "spec": {
            "cluster": "default",
            "nodeName": node,
            "device": device,
            "revision": revision,
            "memory": "512Mi",
            "model": { "name": "m", "source": { "uri": "https://x/m.onnx", "digest": "sha256:0" } },
        },
    }))
    .expect("a replica")
}
