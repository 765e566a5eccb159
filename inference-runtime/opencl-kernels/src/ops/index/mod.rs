//! The index family: elements chosen or placed by indices that arrive with the request.
//!
//! An index out of range fails the run (see [`Emitter::fault`](crate::plan::Emitter::fault)) unless the operator
//! gives it a meaning. Operators whose output *shape* depends on data (`NonZero`, `Compress`, `Unique`) are absent on
//! purpose: a plan decides every shape before anything runs.

mod gather;
mod gather_elements;
mod gather_nd;
mod one_hot;
mod position;
mod reduction;
mod scatter_elements;
mod scatter_nd;
mod top_k;

use super::Registration;

/// What this family lowers.
pub(super) const OPERATORS: &[Registration] = &[
    Registration::onnx("Gather", 1, 13, gather::construct),
    Registration::onnx("GatherElements", 11, 13, gather_elements::construct),
    Registration::onnx("GatherND", 11, 13, gather_nd::construct),
    Registration::onnx("OneHot", 9, 28, one_hot::construct),
    // Its old name; version 11 only forwards to `ScatterElements`.
    Registration::onnx("Scatter", 9, 11, scatter_elements::construct),
    Registration::onnx("ScatterElements", 11, 18, scatter_elements::construct),
    Registration::onnx("ScatterND", 11, 18, scatter_nd::construct),
    Registration::onnx("TopK", 1, 24, top_k::construct),
];
