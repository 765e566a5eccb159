//! The execution provider that ONNX Runtime loads: an adapter between its graphs and `opencl-kernels`.
//!
//! It is registered as a plugin library (`CreateEpFactories`, [`exports`]), offers one device per OpenCL device
//! ([`device`]), copies the graphs it is shown ([`graph`]), claims what a dry run of the compiler accepts
//! ([`capability`], [`partition`]), compiles that ([`ep`]) and runs it ([`compute`]). Tensors at the borders of a
//! claimed group lie in host memory.
//!
//! What it deliberately does not do: kernels, fusion and memory planning (`opencl-kernels`), anything about files,
//! queues or networks (the engine), control flow (the host).
//!
//! Every callback is a C function that must not unwind: errors and panics become statuses ([`failure`]).

#![expect(unsafe_code, reason = "callbacks of ONNX Runtime's C interface")]

mod capability;
mod compute;
mod data_transfer;
mod device;
mod ep;
pub mod exports;
mod factory;
mod failure;
mod graph;
mod log;
mod names;
pub mod observe;
mod options;
mod pairs;
mod partition;
