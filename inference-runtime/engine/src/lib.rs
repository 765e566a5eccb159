//! One process, one device: serves a folder of ONNX models.
#![forbid(unsafe_code)]

pub mod api;
mod cache;
mod engine;
mod limits;
mod metrics;
mod onnx;
mod session;
pub mod wire;

pub use engine::Engine;
pub use limits::Limits;
pub use metrics::Metrics;
