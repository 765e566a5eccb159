//! Operators that treat every element alike: functions of one operand, arithmetic and comparisons with
//! broadcasting, choices and conversions.
//!
//! Every program here is a text that defines `apply` followed by `broadcast.cl`, which walks the output.

use super::Registration;

mod cast;
mod clip;
mod erf;
mod fold;
mod select;

pub(in crate::ops) mod attributes;
pub(in crate::ops) mod axes;
pub(in crate::ops) mod binary;
pub(in crate::ops) mod broadcast;
pub(in crate::ops) mod function;
pub(in crate::ops) mod map;
pub(in crate::ops) mod numbers;
pub(in crate::ops) mod operation;
pub(in crate::ops) mod unary;

/// What this family lowers. Versions before broadcasting as `NumPy` does it (7) or with `consumed_inputs` (1) are left
/// out: no exporter of the last eight years writes them.
pub(super) const OPERATORS: &[Registration] = &[
    Registration::onnx("Abs", 6, 13, unary::construct),
    Registration::onnx("Acos", 7, 22, unary::construct),
    Registration::onnx("Acosh", 9, 22, unary::construct),
    Registration::onnx("Add", 7, 14, binary::construct),
    Registration::onnx("And", 7, 7, binary::construct),
    Registration::onnx("Asin", 7, 22, unary::construct),
    Registration::onnx("Asinh", 9, 22, unary::construct),
    Registration::onnx("Atan", 7, 22, unary::construct),
    Registration::onnx("Atanh", 9, 22, unary::construct),
    Registration::onnx("BitShift", 11, 11, binary::construct),
    Registration::onnx("BitwiseAnd", 18, 18, binary::construct),
    Registration::onnx("BitwiseNot", 18, 18, unary::construct),
    Registration::onnx("BitwiseOr", 18, 18, binary::construct),
    Registration::onnx("BitwiseXor", 18, 18, binary::construct),
    Registration::onnx("Cast", 6, 28, cast::construct),
    Registration::onnx("CastLike", 15, 25, cast::construct),
    Registration::onnx("Ceil", 6, 13, unary::construct),
    Registration::onnx("Celu", 12, 28, unary::construct),
    Registration::onnx("Clip", 6, 13, clip::construct),
    Registration::onnx("Cos", 7, 22, unary::construct),
    Registration::onnx("Cosh", 9, 22, unary::construct),
    Registration::onnx("Div", 7, 14, binary::construct),
    Registration::onnx("Elu", 6, 22, unary::construct),
    Registration::onnx("Equal", 7, 19, binary::construct),
    Registration::onnx("Erf", 9, 13, unary::construct),
    Registration::onnx("Exp", 6, 13, unary::construct),
    Registration::onnx("Floor", 6, 13, unary::construct),
    Registration::onnx("Gelu", 20, 20, unary::construct),
    Registration::onnx("Greater", 7, 13, binary::construct),
    Registration::onnx("GreaterOrEqual", 12, 16, binary::construct),
    Registration::onnx("HardSigmoid", 6, 22, unary::construct),
    Registration::onnx("HardSwish", 14, 22, unary::construct),
    Registration::onnx("IsInf", 10, 20, unary::construct),
    Registration::onnx("IsNaN", 9, 20, unary::construct),
    Registration::onnx("LeakyRelu", 6, 16, unary::construct),
    Registration::onnx("Less", 7, 13, binary::construct),
    Registration::onnx("LessOrEqual", 12, 16, binary::construct),
    Registration::onnx("Log", 6, 13, unary::construct),
    Registration::onnx("Max", 6, 13, fold::construct),
    Registration::onnx("Mean", 6, 13, fold::construct),
    Registration::onnx("Min", 6, 13, fold::construct),
    Registration::onnx("Mish", 18, 22, unary::construct),
    Registration::onnx("Mod", 10, 28, binary::construct),
    Registration::onnx("Mul", 7, 14, binary::construct),
    Registration::onnx("Neg", 6, 13, unary::construct),
    Registration::onnx("Not", 1, 1, unary::construct),
    Registration::onnx("Or", 7, 7, binary::construct),
    Registration::onnx("PRelu", 7, 16, binary::construct),
    Registration::onnx("Pow", 7, 15, binary::construct),
    Registration::onnx("Reciprocal", 6, 13, unary::construct),
    Registration::onnx("Relu", 6, 14, unary::construct),
    Registration::onnx("Round", 11, 22, unary::construct),
    Registration::onnx("Selu", 6, 22, unary::construct),
    Registration::onnx("Shrink", 9, 9, unary::construct),
    Registration::onnx("Sigmoid", 6, 13, unary::construct),
    Registration::onnx("Sign", 9, 13, unary::construct),
    Registration::onnx("Sin", 7, 22, unary::construct),
    Registration::onnx("Sinh", 9, 22, unary::construct),
    Registration::onnx("Softplus", 1, 22, unary::construct),
    Registration::onnx("Softsign", 1, 22, unary::construct),
    Registration::onnx("Sqrt", 6, 13, unary::construct),
    Registration::onnx("Sub", 7, 14, binary::construct),
    Registration::onnx("Sum", 6, 13, fold::construct),
    Registration::onnx("Swish", 24, 24, unary::construct),
    Registration::onnx("Tan", 7, 22, unary::construct),
    Registration::onnx("Tanh", 6, 13, unary::construct),
    Registration::onnx("ThresholdedRelu", 10, 22, unary::construct),
    Registration::onnx("Where", 9, 16, select::construct),
    Registration::onnx("Xor", 7, 7, binary::construct),
    Registration::fused("Silu", unary::construct),
];
