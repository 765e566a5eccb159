//! A batched matrix product over strided operands: what every operator of this family, and a 1×1 convolution, asks a
//! kernel for.

use super::activation::Activation;
use super::batch::Batch;
use super::slices::Slices;
use super::{panels, skinny, tiled};
use crate::ops::operator::Reason;
use crate::plan::{Arg, Emitter};
use crate::runtime::DeviceKind;
use crate::tensor::{DType, TensorType};

/// A matrix inside an input: element strides. A transposed matrix is one with swapped strides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ops) struct Matrix {
    /// Which input of the node.
    pub input: usize,
    /// Strides along the product's batch axes; 0 repeats.
    pub batch: Vec<usize>,
    /// Stride from row to row.
    pub row: usize,
    /// Stride from column to column.
    pub column: usize,
}

/// `C[z] = act(alpha · A[z] B[z] + beta · bias[z] + residual[z])`, C being output 0, dense, z over the batch axes.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::ops) struct Product {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B; 0 makes the sum 0.
    pub k: usize,
    /// Extents of the batch axes.
    pub batch: Vec<usize>,
    /// m × k
    pub a: Matrix,
    /// k × n
    pub b: Matrix,
    /// Whether B is a constant of the graph, so that it may be repacked once and kept.
    pub b_is_constant: bool,
    /// m × n, usually repeating along an axis. Column stride 0 or 1.
    pub bias: Option<Matrix>,
    /// m × n. Column stride 0 or 1.
    pub residual: Option<Matrix>,
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of the bias.
    pub beta: f32,
    /// Applied last.
    pub activation: Activation,
}

/// Batch strides of A, B, bias and residual.
pub(super) type ProductBatch = Batch<4>;

/// How many batch axes a kernel walks by itself; axes outside them become launches of their own.
pub(super) const KERNEL_BATCH_AXES: usize = 4;

impl Product {
    /// Records the launches.
    pub(in crate::ops) fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        if emitter.device().kind == DeviceKind::Cpu {
            return panels::emit(self, emitter);
        }
        // One column, many rows: the transposed product has one row, and a vector has only one layout.
        let transposed = self.transposed();
        let product = if self.n == 1 && self.m > 1 {
            &transposed
        } else {
            self
        };
        if product.m <= skinny::MOST_ROWS {
            skinny::emit(product, emitter)
        } else {
            tiled::emit(product, emitter)
        }
    }

    /// Cᵀ = Bᵀ Aᵀ; only for products whose C is a vector, since C's layout is fixed.
    fn transposed(&self) -> Self {
        let swap = |matrix: &Matrix| Matrix {
            row: matrix.column,
            column: matrix.row,
            ..matrix.clone()
        };
        Self {
            m: self.n,
            n: self.m,
            a: swap(&self.b),
            b: swap(&self.a),
            b_is_constant: false,
            bias: self.bias.as_ref().map(swap),
            residual: self.residual.as_ref().map(swap),
            ..self.clone()
        }
    }

    /// The batch axes of all operands, as few as possible.
    pub(super) fn merged_batch(&self) -> ProductBatch {
        let strides = |matrix: Option<&Matrix>| {
            matrix.map_or_else(|| vec![0; self.batch.len()], |matrix| matrix.batch.clone())
        };
        Batch {
            extents: self.batch.clone(),
            strides: [
                strides(Some(&self.a)),
                strides(Some(&self.b)),
                strides(self.bias.as_ref()),
                strides(self.residual.as_ref()),
            ],
        }
        .merged()
    }

    /// The kernel arguments (`PRODUCT_ARGUMENTS` in `product.cl`).
    pub(super) fn arguments(
        &self,
        emitter: &mut Emitter<'_>,
        launching: Launching<'_>,
    ) -> Result<Vec<Arg>, Reason> {
        let Launching {
            left,
            right,
            target,
            right_strides,
            flags,
            batch,
            base,
            slices,
        } = launching;
        // An absent operand needs some buffer; the flags keep the kernel from reading it.
        let mut addend = |matrix: Option<&Matrix>| matrix.map_or(left.clone(), |m| emitter.read(m.input));
        let (bias, residual) = (addend(self.bias.as_ref()), addend(self.residual.as_ref()));
        let flags = flags | i32::from(self.bias.is_some()) | (i32::from(self.residual.is_some()) << 1);
        let line = |matrix: Option<&Matrix>| matrix.map_or((0, 0), |m| (m.row, m.column));
        let (bias_line, residual_line) = (line(self.bias.as_ref()), line(self.residual.as_ref()));
        let [act_p, act_q] = self.activation.parameters();
        Ok(vec![
            left,
            right,
            target,
            bias,
            residual,
            Arg::Int8([
                int(self.m)?,
                int(self.n)?,
                int(self.k)?,
                flags,
                int(self.a.row)?,
                int(self.a.column)?,
                int(right_strides.0)?,
                int(right_strides.1)?,
            ]),
            Arg::Int8([
                int(bias_line.0)?,
                int(bias_line.1)?,
                int(residual_line.0)?,
                int(residual_line.1)?,
                0,
                0,
                0,
                0,
            ]),
            int4(&batch.extents, 1)?,
            int4(&batch.strides[0], 0)?,
            int4(&batch.strides[1], 0)?,
            int4(&batch.strides[2], 0)?,
            int4(&batch.strides[3], 0)?,
            Arg::Int8([
                int(base[0])?,
                int(base[1])?,
                int(base[2])?,
                int(base[3])?,
                int(base[4])?,
                int(slices.count)?,
                int(slices.steps)?,
                int(batch.extents.iter().product())?,
            ]),
            Arg::F32(self.alpha),
            Arg::F32(self.beta),
            Arg::F32(act_p),
            Arg::F32(act_q),
        ])
    }
}

/// What a launcher decides about a launch.
pub(super) struct Launching<'b> {
    /// A.
    pub left: Arg,
    /// B, as it lies or repacked.
    pub right: Arg,
    /// C.
    pub target: Arg,
    /// Row and column strides of B.
    pub right_strides: (usize, usize),
    /// `FLAG_IN_PLACE`, `FLAG_COLUMNS_FIRST`
    pub flags: i32,
    /// The batch axes of this launch.
    pub batch: &'b ProductBatch,
    /// First element of A, B, C, bias and residual.
    pub base: [usize; 5],
    /// How k is cut.
    pub slices: Slices,
}

/// A float32 output of this shape, if kernels can count its elements.
pub(in crate::ops) fn countable(shape: Vec<usize>) -> Result<TensorType, Reason> {
    let elements = shape
        .iter()
        .try_fold(1_usize, |product, &extent| product.checked_mul(extent));
    match elements {
        Some(elements) if i32::try_from(elements).is_ok() => Ok(TensorType::new(DType::F32, shape)),
        _ => Err(format!(
            "an output of {shape:?} has more elements than a kernel counts"
        )),
    }
}

/// An extent or stride as the kernel takes it.
pub(in crate::ops) fn int(value: usize) -> Result<i32, Reason> {
    i32::try_from(value).map_err(|_| format!("{value} elements are more than a kernel counts"))
}

/// Up to four values, innermost last, `fill` in front.
pub(in crate::ops) fn int4(values: &[usize], fill: i32) -> Result<Arg, Reason> {
    let mut lanes = [fill; 4];
    let start = 4 - values.len();
    for (lane, &value) in lanes[start..].iter_mut().zip(values) {
        *lane = int(value)?;
    }
    Ok(Arg::Int4(lanes))
}
