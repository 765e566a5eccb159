//! Names that several rooms must spell alike: labels, annotations, finalizers, field managers, drivers.

/// On everything that belongs to an `InferenceCluster`: its name.
pub const CLUSTER: &str = "afterglow.dev/cluster";
/// On a `ModelReplica`: the `ModelDeployment` it serves.
pub const DEPLOYMENT: &str = "afterglow.dev/deployment";
/// On a `ModelReplica`: the revision of the deployment, a whole number.
pub const REVISION: &str = "afterglow.dev/revision";
/// On a `ModelReplica`: hash of the revision's template.
pub const TEMPLATE_HASH: &str = "afterglow.dev/template-hash";
/// On a `ModelReplica`: the node it is bound to (also `spec.nodeName`).
pub const NODE: &str = "afterglow.dev/node";

/// Node label: how many devices of the node are offered for serving.
pub const NODE_DEVICES: &str = "afterglow.dev/devices";
/// Node label prefix: `gpu.afterglow.dev/<family>` = number of offered GPUs of that family, e.g. `gpu.afterglow.dev/polaris`.
pub const NODE_FAMILY_PREFIX: &str = "gpu.afterglow.dev/";

/// Finalizer of the agent on a `ModelReplica`: the engine has let go of the model.
pub const REPLICA_FINALIZER: &str = "afterglow.dev/engine";
/// Finalizer of the operator on an `InferenceCluster`.
pub const CLUSTER_FINALIZER: &str = "afterglow.dev/operator";

/// Field manager of the operator's writes.
pub const OPERATOR_MANAGER: &str = "afterglow-operator";
/// Field manager of the agents' writes.
pub const AGENT_MANAGER: &str = "afterglow-agent";

/// Name of the DRA driver in ResourceSlices, and of the DeviceClass.
pub const DRIVER: &str = "gpu.afterglow.dev";
/// Taint on devices in ResourceSlices that serve models: no claim gets them.
pub const SERVING_TAINT: &str = "afterglow.dev/serving";

/// Name of a node agent's Lease, in the namespace of the agents.
pub fn lease(node: &str) -> String {
    format!("afterglow-node-{node}")
}

/// Name of a node's `ResourceSlice`.
pub fn slice(node: &str) -> String {
    format!("{node}-{DRIVER}")
}

/// Whether it is one of the labels that agents put on Kubernetes' nodes.
pub fn is_on_nodes(label: &str) -> bool {
    label == CLUSTER || label == NODE_DEVICES || label.starts_with(NODE_FAMILY_PREFIX)
}
