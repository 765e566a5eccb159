//! Per-model statistics with Triton's semantics (statistics extension).

/// How often, and for how long in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Duration {
    /// Number of events.
    pub count: u64,
    /// Nanoseconds in all.
    pub nanoseconds: u64,
}

/// Where requests' time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InferStatistics {
    /// Successful requests, end to end.
    pub success: Duration,
    /// Failed requests, end to end.
    pub fail: Duration,
    /// Waiting for a batch.
    pub queue: Duration,
    /// Gathering inputs.
    pub compute_input: Duration,
    /// Running.
    pub compute_infer: Duration,
    /// Scattering outputs.
    pub compute_output: Duration,
}

/// Executions of one batch size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchStatistics {
    /// The batch size.
    pub batch_size: u64,
    /// Gathering inputs.
    pub compute_input: Duration,
    /// Running.
    pub compute_infer: Duration,
    /// Scattering outputs.
    pub compute_output: Duration,
}

/// One model version's statistics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelStatistics {
    /// Model name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Milliseconds since the epoch of the last inference; 0 before the first.
    pub last_inference: u64,
    /// Inferences, a batch of n counting n.
    pub inference_count: u64,
    /// Executions, a batch counting 1.
    pub execution_count: u64,
    /// Where time went.
    pub inference: InferStatistics,
    /// Per batch size, ascending.
    pub batches: Vec<BatchStatistics>,
    /// Bytes of device memory held by the model.
    pub device_bytes: u64,
    /// Bytes of host memory held by the model as far as known.
    pub host_bytes: u64,
}
