//! A model's configuration as Triton's clients read it (model-configuration extension).

use super::{Placement, TensorSpec};

/// The part of Triton's `ModelConfig` that this engine honours, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    /// Model name.
    pub name: String,
    /// `onnxruntime_onnx`.
    pub platform: &'static str,
    /// Largest batch in rows; 0 = the model does not batch and shapes are full.
    pub max_batch_size: usize,
    /// Inputs; where the model batches, `shape` comes **without** the batch axis.
    pub inputs: Vec<TensorSpec>,
    /// Outputs; where the model batches, `shape` comes **without** the batch axis.
    pub outputs: Vec<TensorSpec>,
    /// Present if requests are merged into batches.
    pub dynamic_batching: Option<DynamicBatching>,
    /// What of the model runs where; on the wire among the configuration's `parameters`.
    pub placement: Placement,
}

/// How requests are merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DynamicBatching {
    /// Batch sizes that are run as soon as they are reached, ascending; may be empty.
    pub preferred_batch_size: Vec<usize>,
    /// Longest time the oldest request waits for company, in microseconds.
    pub max_queue_delay_microseconds: u64,
}
