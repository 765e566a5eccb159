//! `InferenceCluster`: a pool of nodes with its agents, its scheduler and its rules.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A pool of GPU nodes that serves models: the agents on its nodes, the scheduler in front of them, and what is allowed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "afterglow.dev",
    version = "v1alpha1",
    kind = "InferenceCluster",
    plural = "inferenceclusters",
    shortname = "icluster",
    category = "afterglow",
    doc = "A pool of nodes that serves models: the agents on its nodes, the scheduler in front of them, and what is allowed there.",
    status = "InferenceClusterStatus",
    derive = "PartialEq",
    validation = crate::rule::short_name(),
    printcolumn = r#"{"name":"Nodes","type":"integer","jsonPath":".status.nodes"}"#,
    printcolumn = r#"{"name":"Ready","type":"integer","jsonPath":".status.readyNodes"}"#,
    printcolumn = r#"{"name":"Devices","type":"integer","jsonPath":".status.devices"}"#,
    printcolumn = r#"{"name":"Schedulers","type":"integer","jsonPath":".status.readySchedulers"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct InferenceClusterSpec {
    /// The agents, one on each node.
    #[serde(default)]
    pub agent: Agent,
    /// The scheduler, the front door for requests.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// Namespaces whose ModelDeployments are served: those with these labels. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// The namespace that a request is for when nothing in it says so (no `x-afterglow-namespace` header, and not sent to a
    /// namespace's own Service).
    #[serde(default = "default_namespace")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = crate::rule::label())]
    pub default_namespace: String,
    /// Whether processors may stand in for cards. `Forbidden`: only GPUs are offered. `Allowed`: a node's OpenCL processor device
    /// (PoCL) is offered too; cards are preferred, and what runs on a processor is shown as `CPU`.
    #[serde(default)]
    pub cpu_fallback: CpuFallback,
}

/// Whether processors may stand in for cards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CpuFallback {
    /// Only GPUs are offered.
    #[default]
    Forbidden,
    /// A node's OpenCL processor device (PoCL) is offered too; cards are preferred, and what runs on a processor is shown as `CPU`.
    Allowed,
}

/// The agents.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// Image of agent and engine. Absent: the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Nodes that get an agent: those with these labels. Empty: all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Tolerations of the agents' pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// How the agents reach the cards. `RenderNodes`: through `/dev/dri` of the node; opening a device node needs a privileged
    /// container on today's runtimes. `None`: no device nodes, for nodes without cards; the agents' pods are unprivileged.
    #[serde(default)]
    pub devices: DeviceAccess,
    /// The models' cache on each node.
    #[serde(default)]
    pub cache: Cache,
    /// Folder on the nodes below which `file://` sources may lie. Absent: `file://` is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = crate::rule::folder())]
    pub model_path: Option<String>,
    /// Volumes that `pvc://NAME/PATH` sources name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub model_volumes: Vec<ModelVolume>,
    /// The object store that `s3://` sources lie in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
}

/// How the agents reach the cards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeviceAccess {
    /// Through `/dev/dri` of the node. Opening a device node needs a privileged container on today's runtimes.
    #[default]
    RenderNodes,
    /// No device nodes: for nodes without cards (PoCL). The agent's pod is unprivileged.
    None,
}

/// The models' cache on a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    /// Folder on the node.
    #[serde(default = "cache_path")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = crate::rule::folder())]
    pub host_path: String,
    /// What it may hold; what no replica uses goes first. A model that does not fit is refused.
    #[serde(default = "cache_size")]
    #[x_kube(validation = crate::rule::positive())]
    pub size: Quantity,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            host_path: cache_path(),
            size: cache_size(),
        }
    }
}

/// A volume with models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelVolume {
    /// The name in `pvc://NAME/PATH`.
    #[schemars(length(max = 40))]
    #[x_kube(validation = crate::rule::label())]
    pub name: String,
    /// A PersistentVolumeClaim in the agents' namespace; it is mounted read-only on every node, so it must be
    /// ReadOnlyMany or ReadWriteMany.
    #[schemars(length(max = 253))]
    #[x_kube(validation = crate::rule::object_name())]
    pub claim_name: String,
}

/// An object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// Its address, e.g. `http://minio.storage.svc:9000`. Absent: Amazon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = crate::rule::address())]
    pub endpoint: Option<String>,
    /// Region.
    #[serde(default = "region")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = crate::rule::region())]
    pub region: String,
    /// A Secret in the agents' namespace with the keys `accessKeyId` and `secretAccessKey`. Absent: anonymous.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = crate::rule::object_name())]
    pub secret_name: Option<String>,
}

/// The scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scheduler {
    /// Image of the scheduler. Absent: the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// How many of them.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 10))]
    pub replicas: i32,
    /// How a replica is picked for a request. `LeastLoaded`: the one with the fewest requests waiting and running. `GpuMatch`: the
    /// one on the fastest device; among equals the least loaded. `Adaptive`: the one that is expected to have the answer first,
    /// by what waits there, how fast it is, and the way there.
    #[serde(default)]
    pub strategy: Strategy,
    /// The Service in front of them.
    #[serde(default)]
    pub service: Service,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            image: None,
            replicas: 2,
            strategy: Strategy::default(),
            service: Service::default(),
        }
    }
}

/// How a replica is picked for a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// The replica with the fewest requests waiting and running.
    LeastLoaded,
    /// The fastest device for the model first; among equals the least loaded.
    GpuMatch,
    /// The replica that is expected to have the answer first: what waits there, how fast it is, and the way there.
    #[default]
    Adaptive,
}

/// The Service in front of the schedulers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = crate::rule::ports_are_open(), validation = crate::rule::ports_differ())]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// `ClusterIP`: reachable inside the cluster. `NodePort`: also on a port of every node. `LoadBalancer`: also on an address that
    /// the cloud provides.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// With `NodePort` or `LoadBalancer`: the node port of REST (8000). Absent: Kubernetes chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30000, max = 32767))]
    pub http_node_port: Option<i32>,
    /// With `NodePort` or `LoadBalancer`: the node port of gRPC (8001). Absent: Kubernetes chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30000, max = 32767))]
    pub grpc_node_port: Option<i32>,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            type_: ServiceType::ClusterIp,
            http_node_port: None,
            grpc_node_port: None,
        }
    }
}

/// Kind of a Service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Reachable inside the cluster.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// Also on a port of every node.
    NodePort,
    /// Also on an address that the cloud provides.
    LoadBalancer,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InferenceClusterStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Nodes that should have an agent.
    #[serde(default)]
    pub nodes: i32,
    /// Nodes whose agent works and offers a device.
    #[serde(default)]
    pub ready_nodes: i32,
    /// Devices that models may be placed on.
    #[serde(default)]
    pub devices: i32,
    /// Schedulers that answer.
    #[serde(default)]
    pub ready_schedulers: i32,
    /// Where inside the cluster the scheduler is, e.g. `http://afterglow-default.afterglow-system.svc:8000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `Ready`, `Progressing`, `Degraded`.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn cache_path() -> String {
    "/var/lib/afterglow".to_owned()
}

fn cache_size() -> Quantity {
    Quantity("50Gi".to_owned())
}

fn region() -> String {
    "us-east-1".to_owned()
}

fn two() -> i32 {
    2
}
