//! Runs graphs of tensor operators on OpenCL devices.
//!
//! A graph in ONNX's vocabulary ([`ir::Graph`]) is rewritten ([`fusion`]), lowered node by node to
//! [`ops::Operator`]s, planned for concrete input shapes ([`plan`]) and run on a device ([`runtime`]).
//! Everything up to the plan is pure: no device is touched, so a caller may try a graph ("dry run") before it
//! claims that this crate can run it.
//!
//! This crate knows nothing of ONNX Runtime, files, tokens or networks.

pub mod error;
pub mod fusion;
pub mod ir;
pub mod ops;
pub mod plan;
pub mod program;
pub mod runtime;
pub mod selftest;
pub mod tensor;
pub mod testing;

pub use error::{Error, Result, Unsupported};
pub use program::{CompileOptions, Program};
