//! Operators that bring rows, channels or groups to a common scale: softmax and the normalizations.

use super::Registration;

mod layer_norm;
mod softmax;

/// What this family lowers.
pub(super) const OPERATORS: &[Registration] = &[
    Registration::onnx("LayerNormalization", 17, 17, layer_norm::construct),
    Registration::onnx("LogSoftmax", 1, 13, softmax::construct),
    Registration::onnx("RMSNormalization", 23, 23, layer_norm::construct),
    Registration::onnx("Softmax", 1, 13, softmax::construct),
    Registration::fused("ScaledMaskedSoftmax", softmax::construct_fused),
    Registration::fused("SkipLayerNorm", layer_norm::construct_fused),
];
