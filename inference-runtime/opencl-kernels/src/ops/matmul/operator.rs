//! `MatMul` (ONNX operator spec, MatMul-1, -9, -13) and its fused form.

use super::activation::{ACTIVATION_ATTRIBUTES, Activation};
use super::attributes::refuse_unknown;
use super::batch::{broadcast_shapes, broadcast_strides, dense_strides};
use super::product::{Matrix, Product, countable};
use super::reference::{Ending, Repeating, multiply};
use crate::ops::NodeView;
use crate::ops::operator::{Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{DType, HostTensor, TensorType};

/// `act(alpha · A B + bias + residual)`, numpy's matmul for A B: the last two axes are matrices, the others broadcast,
/// a vector is a row on the left and a column on the right.
#[derive(Debug)]
pub(super) struct MatMul {
    trans_a: bool,
    trans_b: bool,
    alpha: f32,
    activation: Activation,
    b_is_constant: bool,
}

const BIAS: usize = 2;
const RESIDUAL: usize = 3;

/// ONNX's operator.
pub(super) fn plain(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    refuse_unknown(node, &[])?;
    operands(node)?;
    Ok(Box::new(MatMul {
        trans_a: false,
        trans_b: false,
        alpha: 1.0,
        activation: Activation::None,
        b_is_constant: node.constant(1).is_some(),
    }))
}

/// `MatMulEpilogue`: A, B, bias?, residual?; `transA` and `transB` swap the last two axes of a matrix.
pub(super) fn with_epilogue(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let known = ["transA", "transB", "alpha"]
        .into_iter()
        .chain(ACTIVATION_ATTRIBUTES);
    refuse_unknown(node, &known.collect::<Vec<_>>())?;
    operands(node)?;
    for i in [BIAS, RESIDUAL] {
        if node.has_input(i) {
            node.require_dtype(i, &[DType::F32])?;
        }
    }
    Ok(Box::new(MatMul {
        trans_a: node.int("transA", 0) != 0,
        trans_b: node.int("transB", 0) != 0,
        alpha: node.float("alpha", 1.0),
        activation: Activation::parse(node)?,
        b_is_constant: node.constant(1).is_some(),
    }))
}

fn operands(node: &NodeView<'_>) -> Result<(), String> {
    for i in [0, 1] {
        node.require_dtype(i, &[DType::F32])?;
        if node.rank(i)? == 0 {
            return Err(format!("input {i} is a scalar"));
        }
    }
    Ok(())
}

/// How two operands' axes pair up.
struct Pairing {
    /// Broadcast batch extents.
    batch: Vec<usize>,
    m: usize,
    n: usize,
    k: usize,
    /// Whether m and n are axes of the output: a vector's axis is not.
    visible: [bool; 2],
    /// The operands with both matrix axes.
    a: Vec<usize>,
    b: Vec<usize>,
}

impl Pairing {
    fn output(&self) -> Vec<usize> {
        let mut shape = self.batch.clone();
        shape.extend(self.visible[0].then_some(self.m));
        shape.extend(self.visible[1].then_some(self.n));
        shape
    }
}

impl MatMul {
    fn pair(&self, a: &[usize], b: &[usize]) -> Result<Pairing, Reason> {
        let does_not_fit = || format!("{a:?} times {b:?} is not defined");
        let visible = [a.len() > 1, b.len() > 1];
        let mut full_a = a.to_vec();
        if !visible[0] {
            full_a.insert(0, 1);
        }
        let mut full_b = b.to_vec();
        if !visible[1] {
            full_b.push(1);
        }
        let (batch_a, matrix_a) = full_a.split_at(full_a.len() - 2);
        let (batch_b, matrix_b) = full_b.split_at(full_b.len() - 2);
        let (m, k) = ordered(matrix_a, self.trans_a && visible[0]);
        let (k_b, n) = ordered(matrix_b, self.trans_b && visible[1]);
        if k != k_b {
            return Err(does_not_fit());
        }
        Ok(Pairing {
            batch: broadcast_shapes(batch_a, batch_b).ok_or_else(does_not_fit)?,
            m,
            n,
            k,
            visible,
            a: full_a,
            b: full_b,
        })
    }

    fn product(
        &self,
        pairing: &Pairing,
        bias: Option<&[usize]>,
        residual: Option<&[usize]>,
    ) -> Option<Product> {
        let matrix = |input: usize, full: &[usize], transposed: bool| {
            let strides = dense_strides(full);
            let axes = full.len();
            let (row, column) = ordered(&strides[axes - 2..], transposed);
            let batch = broadcast_strides(&full[..axes - 2], &strides[..axes - 2], &pairing.batch)?;
            Some(Matrix {
                input,
                batch,
                row,
                column,
            })
        };
        let output = pairing.output();
        let addend = |input: usize, shape: &[usize]| {
            let mut strides = broadcast_strides(shape, &dense_strides(shape), &output)?;
            let column = if pairing.visible[1] { strides.pop()? } else { 0 };
            let row = if pairing.visible[0] { strides.pop()? } else { 0 };
            Some(Matrix {
                input,
                batch: strides,
                row,
                column,
            })
        };
        Some(Product {
            m: pairing.m,
            n: pairing.n,
            k: pairing.k,
            batch: pairing.batch.clone(),
            a: matrix(0, &pairing.a, self.trans_a && pairing.visible[0])?,
            b: matrix(1, &pairing.b, self.trans_b && pairing.visible[1])?,
            b_is_constant: self.b_is_constant,
            bias: match bias {
                Some(shape) => Some(addend(BIAS, shape)?),
                None => None,
            },
            residual: match residual {
                Some(shape) => Some(addend(RESIDUAL, shape)?),
                None => None,
            },
            alpha: self.alpha,
            beta: 1.0,
            activation: self.activation,
        })
    }
}

fn ordered(pair: &[usize], swapped: bool) -> (usize, usize) {
    if swapped {
        (pair[1], pair[0])
    } else {
        (pair[0], pair[1])
    }
}

impl Operator for MatMul {
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
        let pairing = self.pair(a, b)?;
        let output = pairing.output();
        for (what, addend) in [("bias", shape(BIAS)), ("residual", shape(RESIDUAL))] {
            let Some(addend) = addend else { continue };
            if broadcast_strides(addend, &dense_strides(addend), &output).is_none() {
                return Err(format!("{what} {addend:?} does not broadcast to {output:?}"));
            }
        }
        Ok(vec![countable(output)?])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let input = |i: usize| inputs.get(i).copied().flatten();
        let a = input(0).ok_or("input 0 is missing")?;
        let b = input(1).ok_or("input 1 is missing")?;
        let pairing = self.pair(a.shape(), b.shape())?;
        let mut full = pairing.batch.clone();
        full.extend([pairing.m, pairing.n]);
        let ending = Ending {
            alpha: self.alpha,
            beta: 1.0,
            bias: input(BIAS).map(Repeating::new).transpose()?,
            residual: input(RESIDUAL).map(Repeating::new).transpose()?,
            activation: self.activation,
        };
        let (a, b) = (a.reshaped(pairing.a.clone()), b.reshaped(pairing.b.clone()));
        let values = multiply(
            (&Repeating::new(&a)?, self.trans_a && pairing.visible[0]),
            (&Repeating::new(&b)?, self.trans_b && pairing.visible[1]),
            pairing.k,
            &full,
            pairing.visible,
            &ending,
        );
        Ok(vec![HostTensor::f32(pairing.output(), &values)])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let pairing = self.pair(&emitter.input_type(0).shape, &emitter.input_type(1).shape)?;
        let shape = |i: usize| emitter.input(i).map(|operand| operand.ty.shape.clone());
        let (bias, residual) = (shape(BIAS), shape(RESIDUAL));
        self.product(&pairing, bias.as_deref(), residual.as_deref())
            .ok_or("bias or residual does not broadcast to the product")?
            .emit(emitter)
    }
}
