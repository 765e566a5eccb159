//! Matrix products: `MatMul`, `Gemm`, and a product with bias, residual and activation made by fusion.
//!
//! All of them become one `product::Product`, and that one of three kernels:
//!
//! | kernel | where |
//! |---|---|
//! | `tiled` | GPU: 64 × 64 tiles through local memory; k cut into `slices` where tiles are few |
//! | `skinny` | GPU: at most 8 rows, bound by reading the right operand once |
//! | `panels` | CPU runtimes: 8 × 32 blocks in vector registers, right operand packed |
//!
//! float32 only. Sums are plain float32 in an order that depends on the kernel: compare with tolerances.

mod activation;
mod attributes;
mod batch;
mod gemm;
mod operator;
mod panels;
mod product;
mod reference;
mod skinny;
mod slices;
mod tiled;

#[cfg(test)]
mod tests;

use super::Registration;

pub(super) use activation::{ACTIVATION_ATTRIBUTES, Activation};
pub(super) use attributes::refuse_unknown;
pub(super) use product::{Matrix, Product, countable, int};
pub(super) use reference::coordinates;
pub(super) use slices::Slices;

/// What this family lowers.
pub(super) const OPERATORS: &[Registration] = &[
    Registration::onnx("MatMul", 1, 13, operator::plain),
    Registration::onnx("Gemm", 1, 13, gemm::construct),
    Registration::fused("MatMulEpilogue", operator::with_epilogue),
];
