//! One process, one device: serves a folder of ONNX models.
#![forbid(unsafe_code)]

pub mod api;
mod engine;
mod limits;
mod metrics;

pub use engine::Engine;
pub use limits::Limits;
pub use metrics::Metrics;
