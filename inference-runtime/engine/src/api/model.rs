//! What a client can learn about a model.

use super::Datatype;

/// A model's input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name.
    pub name: String,
    /// Element type.
    pub datatype: Datatype,
    /// Extents, −1 = dynamic. With batching the first one is the batch.
    pub shape: Vec<i64>,
}

/// Model metadata (OIP `ModelMetadata`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelMetadata {
    /// Name.
    pub name: String,
    /// Versions that are ready, ascending.
    pub versions: Vec<String>,
    /// `onnxruntime_onnx`.
    pub platform: &'static str,
    /// Inputs in the model's order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs in the model's order.
    pub outputs: Vec<TensorSpec>,
}

/// A model version's state in the repository (Triton's words).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelState {
    /// Being probed, loaded or warmed up.
    Loading,
    /// Serving.
    Ready,
    /// Draining.
    Unloading,
    /// Not loaded, or failed with a reason.
    Unavailable,
}

impl ModelState {
    /// The state on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loading => "LOADING",
            Self::Ready => "READY",
            Self::Unloading => "UNLOADING",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

/// One line of the repository index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// Model name.
    pub name: String,
    /// Version.
    pub version: String,
    /// State.
    pub state: ModelState,
    /// Why it is not ready; empty if it is.
    pub reason: String,
}

/// What of a model runs where; shown by the probe, `afterglow models` and a metric.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Placement {
    /// Device the session was made for, e.g. `opencl:0 NAME` or `cpu`.
    pub device: String,
    /// Nodes that run in our execution provider.
    pub device_nodes: usize,
    /// Nodes that run on ONNX Runtime's CPU provider.
    pub cpu_nodes: usize,
    /// Fused partitions of our execution provider.
    pub partitions: usize,
    /// The CPU nodes' operators and how many of each, sorted by name.
    pub cpu_operators: Vec<(String, usize)>,
}
