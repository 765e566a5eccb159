//! One process, one device: serves a folder of ONNX models.
#![forbid(unsafe_code)]

pub mod api;
mod cache;
pub mod command;
mod devices;
mod engine;
mod limits;
mod metrics;
mod model;
mod onnx;
mod probe;
mod queue;
mod repository;
mod serving;
mod session;
mod statistics;
mod text;
pub mod wire;

pub use engine::{Engine, Options, StartError};
pub use limits::Limits;
pub use metrics::Metrics;
pub use probe::{Comparison, Latency, ModelProfile, ReasonCode, Verdict};
pub use session::{DeviceChoice, DeviceError, LibraryError, RuntimeError};
