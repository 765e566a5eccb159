//! Runs graphs of tensor operators on OpenCL devices.
//!
//! A graph in ONNX's vocabulary ([`ir::Graph`]) is compiled to a [`Program`]: constants are folded, nodes are fused
//! ([`fusion`]) and lowered to [`ops::Operator`]s. A program is planned for concrete input shapes ([`plan`]) and run on a
//! device by a [`runtime::Executor`]. Everything up to the plan is pure: no device is touched, so a caller may compile a
//! graph ("dry run") before it claims that this crate can run it.
//!
//! [`selftest`] says whether a device computes right and how fast it is; [`testing`] compares operators and graphs on a
//! device with their CPU references.
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
