//! Convolutions: `Conv`, `ConvTranspose`, and a convolution with bias, residual and activation made by fusion.
//!
//! | kernel | where |
//! |---|---|
//! | a matrix product ([`super::matmul`]) | windows of one element that visit every pixel |
//! | `implicit` | GPU: an implicit matrix product, one or two spatial axes, enough channels |
//! | `direct` | GPU: everything else; elsewhere: windows too large for `taps` |
//! | `transpose` | `ConvTranspose` everywhere |
//! | `taps` | CPU runtimes: shifted rows of a padded copy of the input |
//!
//! float32, one to three spatial axes, any groups, strides, dilations and padding.

mod direct;
mod implicit;
mod launch;
mod operator;
mod reference;
mod taps;
mod transpose;
mod window;

#[cfg(test)]
mod tests;

use super::Registration;

pub(super) use window::{Axis, Padding, Sliding, lengths, three};

/// What this family lowers.
pub(super) const OPERATORS: &[Registration] = &[
    Registration::onnx("Conv", 1, 22, operator::plain),
    Registration::onnx("ConvTranspose", 1, 22, transpose::construct),
    Registration::fused("ConvEpilogue", operator::with_epilogue),
];
