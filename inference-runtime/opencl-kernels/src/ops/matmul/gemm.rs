//! `Gemm` (ONNX operator spec, Gemm-1, -6, -7, -9, -11, -13).

use super::activation::Activation;
use super::attributes::refuse_unknown;
use super::batch::{broadcast_strides, dense_strides};
use super::product::{Matrix, Product, countable};
use super::reference::{Ending, Repeating, multiply};
use crate::ops::NodeView;
use crate::ops::operator::{Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{DType, HostTensor, TensorType};

/// `alpha · A' B' + beta · C` for matrices, C broadcasting to the product's shape.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "three of them are ONNX's attributes"
)]
pub(super) struct Gemm {
    trans_a: bool,
    trans_b: bool,
    alpha: f32,
    beta: f32,
    /// Versions 1 and 6 broadcast C only where the attribute `broadcast` says so.
    broadcasts: bool,
    b_is_constant: bool,
}

const C: usize = 2;

pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let version = node.node().since_version;
    let with_flag = version < 7;
    let known: &[&str] = if with_flag {
        &["alpha", "beta", "transA", "transB", "broadcast"]
    } else {
        &["alpha", "beta", "transA", "transB"]
    };
    refuse_unknown(node, known)?;
    for i in [0, 1] {
        node.require_dtype(i, &[DType::F32])?;
        if node.rank(i)? != 2 {
            return Err(format!("input {i} is not a matrix"));
        }
    }
    if node.has_input(C) {
        node.require_dtype(C, &[DType::F32])?;
    } else if version < 11 {
        return Err("input C is missing".to_owned());
    }
    Ok(Box::new(Gemm {
        trans_a: node.int("transA", 0) != 0,
        trans_b: node.int("transB", 0) != 0,
        alpha: node.float("alpha", 1.0),
        beta: node.float("beta", 1.0),
        broadcasts: !with_flag || node.int("broadcast", 0) != 0,
        b_is_constant: node.constant(1).is_some(),
    }))
}

struct Sizes {
    m: usize,
    n: usize,
    k: usize,
}

impl Gemm {
    fn sizes(&self, a: &[usize], b: &[usize], c: Option<&[usize]>) -> Result<Sizes, Reason> {
        let (&[a0, a1], &[b0, b1]) = (a, b) else {
            return Err(format!("{a:?} and {b:?} are not both matrices"));
        };
        let (m, k) = if self.trans_a { (a1, a0) } else { (a0, a1) };
        let (k_b, n) = if self.trans_b { (b1, b0) } else { (b0, b1) };
        if k != k_b {
            let [left, right] = [self.trans_a, self.trans_b].map(|t| if t { " transposed" } else { "" });
            return Err(format!("{a:?}{left} times {b:?}{right} is not defined"));
        }
        if let Some(c) = c {
            let fits = if self.broadcasts {
                broadcast_strides(c, &dense_strides(c), &[m, n]).is_some()
            } else {
                c == [m, n]
            };
            if !fits {
                return Err(format!("C {c:?} does not broadcast to [{m}, {n}]"));
            }
        }
        Ok(Sizes { m, n, k })
    }
}

impl Operator for Gemm {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let shape = |i: usize| {
            inputs
                .get(i)
                .copied()
                .flatten()
                .map(|operand| operand.ty.shape.as_slice())
        };
        let a = shape(0).ok_or("input 0 is missing")?;
        let b = shape(1).ok_or("input 1 is missing")?;
        let Sizes { m, n, .. } = self.sizes(a, b, shape(C))?;
        Ok(vec![countable(vec![m, n])?])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let input = |i: usize| inputs.get(i).copied().flatten();
        let a = input(0).ok_or("input 0 is missing")?;
        let b = input(1).ok_or("input 1 is missing")?;
        let c = input(C);
        let Sizes { m, n, k } = self.sizes(a.shape(), b.shape(), c.map(HostTensor::shape))?;
        let ending = Ending {
            alpha: self.alpha,
            beta: self.beta,
            bias: c.map(Repeating::new).transpose()?,
            residual: None,
            activation: Activation::None,
        };
        let values = multiply(
            (&Repeating::new(a)?, self.trans_a),
            (&Repeating::new(b)?, self.trans_b),
            k,
            &[m, n],
            [true, true],
            &ending,
        );
        Ok(vec![HostTensor::f32([m, n], &values)])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let (a, b) = (&emitter.input_type(0).shape, &emitter.input_type(1).shape);
        let c = emitter.input(C).map(|operand| operand.ty.shape.clone());
        let Sizes { m, n, k } = self.sizes(a, b, c.as_deref())?;
        let matrix = |input: usize, columns: usize, transposed: bool| Matrix {
            input,
            batch: Vec::new(),
            row: if transposed { 1 } else { columns },
            column: if transposed { columns } else { 1 },
        };
        let bias = c
            .map(|shape| {
                broadcast_strides(&shape, &dense_strides(&shape), &[m, n])
                    .ok_or_else(|| format!("C {shape:?} does not broadcast to [{m}, {n}]"))
            })
            .transpose()?;
        Product {
            m,
            n,
            k,
            batch: Vec::new(),
            a: matrix(0, a[1], self.trans_a),
            b: matrix(1, b[1], self.trans_b),
            b_is_constant: self.b_is_constant,
            bias: bias.map(|strides| Matrix {
                input: C,
                batch: Vec::new(),
                row: strides[0],
                column: strides[1],
            }),
            residual: None,
            alpha: self.alpha,
            beta: self.beta,
            activation: Activation::None,
        }
        .emit(emitter)
    }
}
