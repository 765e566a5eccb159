//! The shape family: tensors under other shapes, shapes as tensors, and tensors that shapes alone decide. A
//! new shape is an alias; almost everything else is known when a plan is made.

mod constant;
mod dropout;
mod fill;
mod identity;
mod range;
mod reshape;
mod shape_of;

use super::Registration;

/// What this family lowers.
pub(super) const OPERATORS: &[Registration] = &[
    Registration::onnx("Constant", 1, 25, constant::construct),
    Registration::onnx("ConstantOfShape", 9, 25, fill::constant_of_shape),
    Registration::onnx("Dropout", 7, 22, dropout::construct),
    Registration::onnx("EyeLike", 9, 22, fill::eye_like),
    Registration::onnx("Flatten", 1, 25, reshape::flatten),
    Registration::onnx("Identity", 1, 25, identity::construct),
    Registration::onnx("Range", 11, 27, range::construct),
    Registration::onnx("Reshape", 1, 25, reshape::reshape),
    Registration::onnx("Shape", 1, 25, shape_of::shape),
    Registration::onnx("Size", 1, 25, shape_of::size),
    Registration::onnx("Squeeze", 1, 25, reshape::squeeze),
    Registration::onnx("Unsqueeze", 1, 25, reshape::unsqueeze),
];
