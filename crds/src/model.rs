//! What is served and how: the words that `ModelDeployment` and `ModelReplica` share.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A model: where it comes from and how it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// The name that clients use. Default: the name of the ModelDeployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = crate::rule::model_name())]
    pub name: Option<String>,
    /// Where the model comes from.
    pub source: Source,
    /// What the model is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// What may run on the CPU while the model runs on a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<PlacementRule>,
    /// How requests are merged and queued. What is absent is taken from the package's own `model.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batching: Option<Batching>,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// `https://HOST/PATH`, `http://HOST/PATH`, `s3://BUCKET/KEY` (endpoint and keys: `InferenceCluster`'s `spec.agent.s3`),
    /// `pvc://VOLUME/PATH` (a volume of `InferenceCluster`'s `spec.agent.modelVolumes`) or `file:///PATH` (on the node, below
    /// `spec.agent.modelPath`). What lies there is an ONNX file (`.onnx`) or a package: a `.tar`, `.tar.gz` or `.tgz` with
    /// `model.onnx` at its top, beside it what belongs to it (`tokenizer.json`, …) and, optionally, the author's `model.yaml`.
    /// `afterglow pack` writes one.
    #[schemars(length(max = 2048))]
    #[x_kube(
        validation = crate::rule::uri_shape(),
        validation = crate::rule::uri_extension(),
        validation = crate::rule::uri_stays_below(),
        validation = crate::rule::uri_without_credentials()
    )]
    pub uri: String,
    /// SHA-256 of the file at `uri`: `sha256:` and 64 hexadecimal digits. It is compared before anything reads the file.
    #[schemars(length(max = 71))]
    #[x_kube(validation = crate::rule::digest())]
    pub digest: String,
}

/// What the model is for. `Tensor`: tensors in, tensors out. `Embedding`: also text in, one vector out, on `POST /v1/embeddings`;
/// the package needs a `tokenizer.json`. Default: what the package's own `model.yaml` says, else `Tensor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Task {
    /// Tensors in, tensors out.
    Tensor,
    /// Also text in, one vector out: `POST /v1/embeddings`.
    Embedding,
}

/// What may run on the CPU while the model runs on a GPU. `Prefer`: what the device cannot run; the share is shown in the
/// replica's status. `Strict`: nothing but shape arithmetic; any other node left on the CPU makes the probe fail. Default: what
/// the package's own `model.yaml` says, else `Prefer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PlacementRule {
    /// What the device cannot run; the share is shown in the replica's status.
    Prefer,
    /// Nothing but shape arithmetic; any other node left on the CPU makes the probe fail.
    Strict,
}

/// How requests are merged and queued.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = crate::rule::sizes_fit())]
#[serde(rename_all = "camelCase")]
pub struct Batching {
    /// Most rows of a batch; 0 = never merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1024))]
    pub max_batch_size: Option<i32>,
    /// How long the first request waits for company, e.g. `2ms`; `0ms` merges only what waits anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = crate::rule::short_duration())]
    pub max_delay: Option<String>,
    /// Sizes at which a batch goes at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(range(min = 1, max = 1024)))]
    #[x_kube(validation = crate::rule::ascending())]
    pub preferred_sizes: Option<Vec<i32>>,
    /// Requests that may wait; one more is refused with 503 or UNAVAILABLE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65536))]
    pub max_queue: Option<i32>,
}
