//! `ModelReplica`: one revision of one model on one device. Like a Pod, nobody writes one by hand.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gpu_node::DeviceType;
use crate::model::Model;

/// One placement: this revision of this model on this device. The operator writes the spec, the node's agent the status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "afterglow.dev",
    version = "v1alpha1",
    kind = "ModelReplica",
    plural = "modelreplicas",
    namespaced,
    shortname = "mreplica",
    category = "afterglow",
    doc = "One placement: this revision of this model on this device. The operator writes the spec, the agent of its node the status; like a Pod, nobody writes one by hand.",
    status = "ModelReplicaStatus",
    derive = "PartialEq",
    selectable = ".spec.nodeName",
    printcolumn = r#"{"name":"Model","type":"string","jsonPath":".spec.model.name"}"#,
    printcolumn = r#"{"name":"Revision","type":"integer","jsonPath":".spec.revision"}"#,
    printcolumn = r#"{"name":"Node","type":"string","jsonPath":".spec.nodeName"}"#,
    printcolumn = r#"{"name":"Device","type":"string","jsonPath":".spec.device"}"#,
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".status.deviceType"}"#,
    printcolumn = r#"{"name":"Memory","type":"string","jsonPath":".status.profile.memory"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(validation = crate::rule::fixed_spec())]
#[serde(rename_all = "camelCase")]
pub struct ModelReplicaSpec {
    /// The `InferenceCluster` whose agent hosts it.
    #[schemars(length(max = 40))]
    pub cluster: String,
    /// The node it is bound to.
    #[schemars(length(max = 253))]
    pub node_name: String,
    /// The device of that node, as in `GpuNode`'s `status.devices[].name`.
    #[schemars(length(max = 63))]
    pub device: String,
    /// The deployment's revision, from 1; the model's version on the wire.
    #[schemars(range(min = 1))]
    pub revision: i64,
    /// The model; here its name is always filled in.
    pub model: Model,
    /// Device memory that is set aside for it.
    pub memory: Quantity,
}

/// What the agent made of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelReplicaStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where its engine answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// What it runs on: a CPU is shown as such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_type: Option<DeviceType>,
    /// While the model is fetched: how far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<Fetch>,
    /// What the probe measured before the model served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// `Ready`; its reason is `Ready`, what is being done (`Fetching`, `Probing`, `Loading`, `Draining`) or what went wrong
    /// (`SourceNotFound`, `SourceUnreachable`, `SourceForbidden`, `DigestMismatch`, `SourceTooLarge`, `PackageInvalid`,
    /// `ModelInvalid`, `ProbeMismatch`, `PlacementRefused`, `OutOfMemory`, `ProbeFailed`, `DeviceUnknown`, `DeviceUnhealthy`,
    /// `EngineFailed`, `CacheFull`, `CacheUnusable`).
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where an engine answers for a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// `IP:PORT` of gRPC (Open Inference Protocol).
    pub grpc: String,
    /// `IP:PORT` of REST.
    pub http: String,
    /// What the engine calls the model: unlike the name that clients use, it is unique on the engine.
    pub model: String,
}

/// How far a model is fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fetch {
    /// Bytes here so far.
    pub bytes: i64,
    /// Bytes in all, where the source tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<i64>,
}

/// What the probe measured on the device before the model served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Device memory that the model takes (on a CPU: host memory).
    pub memory: Quantity,
    /// Milliseconds to load it.
    pub load_milliseconds: i64,
    /// Nodes of the graph that run on the device.
    pub device_nodes: i64,
    /// Nodes of the graph that run on the CPU beside it.
    pub cpu_nodes: i64,
    /// Latency by batch size.
    #[serde(default)]
    pub latencies: Vec<Latency>,
}

/// How long a batch takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Rows.
    pub batch: i32,
    /// Median in microseconds.
    pub p50_microseconds: i64,
}
