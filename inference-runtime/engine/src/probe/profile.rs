//! What a probe finds out.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::api::Placement;

/// What a probe found out about a model on a device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelProfile {
    /// What was probed, as it was named.
    pub model: String,
    /// SHA-256 of the version's files and settings.
    pub digest: String,
    /// This engine's version.
    pub engine: String,
    /// ONNX Runtime's version.
    pub onnxruntime: String,
    /// The device, `cpu` or `opencl:0 NAME`.
    pub device: String,
    /// What the provider says of the device: driver, PCI address, …
    pub device_details: Vec<(String, String)>,
    /// Whether the model may be served.
    pub verdict: Verdict,
    /// Why not; empty if it may.
    pub reason: String,
    /// The kind of that reason, for programs; absent if it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<ReasonCode>,
    /// Nodes, those of bodies and functions included.
    pub nodes: u64,
    /// Most rows of a batch; 0 = requests run alone.
    pub max_batch_size: usize,
    /// Why requests run alone; empty if they need not, or if the owner wants it so.
    pub not_batched: String,
    /// What free extents (texts' lengths, images' sides) were tried as.
    pub free_extent: usize,
    /// Inputs and outputs whose rank the model leaves open.
    pub open_rank: BTreeSet<String>,
    /// What runs where.
    pub placement: Placement,
    /// Seconds to load on the device.
    pub load_seconds: f64,
    /// Seconds to load on ONNX Runtime's CPU provider.
    pub reference_load_seconds: f64,
    /// Growth of the process while the model was loaded on the device, in bytes.
    pub host_bytes: u64,
    /// Bytes of the device's memory that the model holds; absent where the provider does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_bytes: Option<u64>,
    /// The device against ONNX Runtime's CPU provider; empty on `cpu`.
    pub comparisons: Vec<Comparison>,
    /// Latency by batch size.
    pub latencies: Vec<Latency>,
}

/// Whether a model may be served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It may.
    Passed,
    /// It may not.
    #[default]
    Failed,
}

/// Why a model may not be served, for programs. A probe that crashed or was stopped writes no profile: who started it
/// sees that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReasonCode {
    /// File, settings or shapes are not what they must be.
    Invalid,
    /// What the placement rule demands cannot be had.
    Placement,
    /// The device computes something else than ONNX Runtime's CPU provider.
    Mismatch,
    /// Not enough memory.
    OutOfMemory,
    /// The model does not load or run on the device.
    Failed,
}

/// One output at one batch size: the device against ONNX Runtime's CPU provider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Rows of the run; 1 where the model does not batch.
    pub batch: usize,
    /// The output.
    pub output: String,
    /// Largest absolute difference.
    pub max_absolute: f64,
    /// That, over the reference's largest magnitude.
    pub max_relative: f64,
    /// Elements beyond the tolerance. NaN against NaN and infinity against the same infinity agree.
    pub beyond: usize,
    /// The reference itself differs from run to run: not compared.
    pub not_deterministic: bool,
}

/// How long a batch takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Rows.
    pub batch: usize,
    /// Median in milliseconds.
    pub p50_milliseconds: f64,
    /// Runs that were measured.
    pub runs: usize,
}
