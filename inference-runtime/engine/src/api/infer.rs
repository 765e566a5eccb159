//! One inference.

use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::NamedTensor;

/// An output that the client named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestedOutput {
    /// The output's name in the model.
    pub name: String,
    /// The classification extension: answer the `n` largest as `"value:index[:label]"` strings; 0 is off.
    pub classification: usize,
}

/// A request, decoded.
#[derive(Debug, Clone)]
pub struct InferRequest {
    /// Model name.
    pub model: String,
    /// Version; `None` is the highest that is ready.
    pub version: Option<String>,
    /// The client's id, returned unchanged; empty where none was given.
    pub id: String,
    /// Inputs; names are unique (decoders refuse duplicates).
    pub inputs: Vec<NamedTensor>,
    /// Wanted outputs; empty means all.
    pub outputs: Vec<RequestedOutput>,
    /// 0 = the model's default, 1 = highest (schedule-policy extension).
    pub priority: u64,
    /// When the answer is worthless: the earliest of grpc-timeout and the `timeout` parameter.
    pub deadline: Option<Instant>,
    /// Fires when the client goes away.
    pub cancel: CancellationToken,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct InferResponse {
    /// Model name.
    pub model: String,
    /// The version that answered.
    pub version: String,
    /// The request's id.
    pub id: String,
    /// Outputs in the order asked for (or the model's order).
    pub outputs: Vec<NamedTensor>,
}
