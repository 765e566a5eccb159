//! One process, one device: serves a folder of ONNX models.
#![forbid(unsafe_code)]

pub mod api;
