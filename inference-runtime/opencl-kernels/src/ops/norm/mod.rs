//! Operators that bring rows, channels or groups to a common scale: softmax and the normalizations.

use super::Registration;

mod batch_norm;
mod group_norm;
mod layer_norm;
mod local_response;
mod lp_norm;
mod softmax;

/// What this family lowers.
pub(super) const OPERATORS: &[Registration] = &[
    Registration::onnx("BatchNormalization", 7, 15, batch_norm::construct),
    Registration::onnx("GroupNormalization", 18, 21, group_norm::construct),
    Registration::onnx("InstanceNormalization", 6, 22, group_norm::construct),
    Registration::onnx("LRN", 1, 13, local_response::construct),
    Registration::onnx("LayerNormalization", 17, 17, layer_norm::construct),
    Registration::onnx("LogSoftmax", 1, 13, softmax::construct),
    Registration::onnx("LpNormalization", 1, 22, lp_norm::construct),
    Registration::onnx("RMSNormalization", 23, 23, layer_norm::construct),
    Registration::onnx("Softmax", 1, 13, softmax::construct),
    Registration::fused("ScaledMaskedSoftmax", softmax::construct_fused),
    Registration::fused("SkipLayerNorm", layer_norm::construct_fused),
];
