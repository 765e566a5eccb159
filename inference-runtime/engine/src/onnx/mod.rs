//! ONNX files, read by safe code before ONNX Runtime sees them.
//!
//! What stands here keeps hostile or broken files away from C++ and knows of a model what ONNX Runtime does not tell.
//! It does not run, optimise or fully check a model: that an operator exists and its types fit is for ONNX Runtime.

mod proto;
mod shape_arithmetic;
mod validate;

pub(crate) use shape_arithmetic::SHAPE_OPERATORS;
pub(crate) use validate::{Checked, validate};
