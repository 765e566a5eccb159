//! Operators that make one number of many: sums, means, extremes and where they are, running sums.

use super::Registration;

mod axes;
mod extreme;
mod kind;
mod reduction;
mod running;

pub(in crate::ops) mod column;
pub(in crate::ops) mod rows;

/// What this family lowers.
pub(super) const OPERATORS: &[Registration] = &[
    Registration::onnx("ArgMax", 1, 13, extreme::construct),
    Registration::onnx("ArgMin", 1, 13, extreme::construct),
    Registration::onnx("CumSum", 11, 14, running::construct),
    Registration::onnx("Hardmax", 1, 13, extreme::construct_hardmax),
    Registration::onnx("ReduceL1", 1, 18, reduction::construct),
    Registration::onnx("ReduceL2", 1, 18, reduction::construct),
    Registration::onnx("ReduceLogSum", 1, 28, reduction::construct),
    Registration::onnx("ReduceLogSumExp", 1, 28, reduction::construct),
    Registration::onnx("ReduceMax", 1, 20, reduction::construct),
    Registration::onnx("ReduceMean", 1, 18, reduction::construct),
    Registration::onnx("ReduceMin", 1, 20, reduction::construct),
    Registration::onnx("ReduceProd", 1, 18, reduction::construct),
    Registration::onnx("ReduceSum", 1, 13, reduction::construct),
    Registration::onnx("ReduceSumSquare", 1, 18, reduction::construct),
];
