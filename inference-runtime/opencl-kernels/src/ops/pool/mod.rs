//! Pools: over sliding windows (`windows`) and over whole planes (`whole`).
//!
//! float32, one to three spatial axes. Positions of a window, `ceil_mode` and what counts as padding follow ONNX
//! Runtime where ONNX's text leaves room.

mod kind;
mod whole;
mod windows;

#[cfg(test)]
mod tests;

use super::Registration;

/// What this family lowers.
pub(super) const OPERATORS: &[Registration] = &[
    Registration::onnx("MaxPool", 1, 22, windows::max),
    Registration::onnx("AveragePool", 1, 22, windows::average),
    Registration::onnx("LpPool", 1, 22, windows::norm),
    Registration::onnx("GlobalMaxPool", 1, 22, whole::max),
    Registration::onnx("GlobalAveragePool", 1, 22, whole::average),
    Registration::onnx("GlobalLpPool", 1, 22, whole::norm),
];
