//! Operators that bring rows, channels or groups to a common scale: softmax and the normalizations.

use super::Registration;

mod softmax;

/// What this family lowers.
pub(super) const OPERATORS: &[Registration] = &[
    Registration::onnx("LogSoftmax", 1, 13, softmax::construct),
    Registration::onnx("Softmax", 1, 13, softmax::construct),
    Registration::fused("ScaledMaskedSoftmax", softmax::construct_fused),
];
