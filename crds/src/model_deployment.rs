//! `ModelDeployment`: a model that somebody wants served.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gpu_node::Family;
use crate::model::Model;

/// A model that is served by some number of replicas, each on a device of its own choosing in an `InferenceCluster`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "afterglow.dev",
    version = "v1alpha1",
    kind = "ModelDeployment",
    plural = "modeldeployments",
    namespaced,
    shortname = "mdeploy",
    category = "afterglow",
    doc = "A model that is served by some number of replicas, each on a device of its own choosing in an InferenceCluster.",
    status = "ModelDeploymentStatus",
    derive = "PartialEq",
    validation = crate::rule::short_name(),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn = r#"{"name":"Wanted","type":"integer","jsonPath":".spec.replicas"}"#,
    printcolumn = r#"{"name":"Ready","type":"integer","jsonPath":".status.readyReplicas"}"#,
    printcolumn = r#"{"name":"Updated","type":"integer","jsonPath":".status.updatedReplicas"}"#,
    printcolumn = r#"{"name":"Revision","type":"integer","jsonPath":".status.revision"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentSpec {
    /// The `InferenceCluster` that serves it. Cannot be changed.
    #[serde(default = "default_cluster")]
    #[schemars(length(max = 40))]
    #[x_kube(validation = crate::rule::fixed(), validation = crate::rule::label())]
    pub cluster: String,
    /// The model. A change of it (or of `requirements`) makes a new revision, which is rolled out.
    pub model: Model,
    /// How many devices serve it.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// What a device must be like.
    #[serde(default)]
    pub requirements: Requirements,
    /// How a new revision replaces the old one.
    #[serde(default)]
    pub rollout: Rollout,
    /// `true` frees the devices and keeps the object: as if `replicas` were 0.
    #[serde(default)]
    pub suspend: bool,
}

/// What a device must be like.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requirements {
    /// GPU families that will do; empty = any device that the cluster offers, CPUs included where the cluster allows them.
    #[serde(default)]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub families: Vec<Family>,
    /// Device memory that the model needs at least. The probe's measurement is used where it is higher; where there
    /// is neither, 512Mi are set aside until the probe has measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = crate::rule::positive())]
    pub memory: Option<Quantity>,
    /// Labels that the Kubernetes node must have.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: std::collections::BTreeMap<String, String>,
}

/// How a new revision replaces the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = crate::rule::can_move())]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// How many replicas above `replicas` may exist while it goes on.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_surge: i32,
    /// How many of `replicas` may be missing while it goes on.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub max_unavailable: i32,
    /// After how many seconds in which no replica was made or became ready the deployment is Degraded.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 10, max = 86400))]
    pub progress_deadline_seconds: i32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            max_surge: 1,
            max_unavailable: 0,
            progress_deadline_seconds: 600,
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Number of the newest revision, from 1; it is the model's version on the wire.
    #[serde(default)]
    pub revision: i64,
    /// Hash of the newest revision's template.
    #[serde(default)]
    pub template_hash: String,
    /// ModelReplicas that exist, of any revision.
    #[serde(default)]
    pub replicas: i32,
    /// Of those, of the newest revision.
    #[serde(default)]
    pub updated_replicas: i32,
    /// Of those of any revision, how many serve.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Label selector of its replicas, for `kubectl scale` and autoscalers.
    #[serde(default)]
    pub selector: String,
    /// Where inside the cluster clients find it, e.g. `http://afterglow-default.team-a.svc:8000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The name that clients use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
    /// `Ready`, `Progressing`, `Degraded`.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

fn default_cluster() -> String {
    "default".to_owned()
}

fn one() -> i32 {
    1
}

fn ten_minutes() -> i32 {
    600
}
