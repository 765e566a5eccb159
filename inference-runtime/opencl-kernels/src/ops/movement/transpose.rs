//! Transpose: the axes in another order.

use super::arguments::{distinct_axes, only_attributes, operands, required, required_tensor};
use super::elements::{pick, strides};
use super::strided::StridedCopy;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{HostTensor, TensorType};

/// ONNX operator spec, Transpose-1 to Transpose-25.
#[derive(Debug)]
struct Transpose {
    /// For each output axis its input axis.
    order: Vec<usize>,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &["perm"])?;
    let rank = view.rank(0)?;
    let order = match view.attributes().ints("perm") {
        None => (0..rank).rev().collect(),
        Some(order) if order.len() != rank => {
            return Err(format!("perm {order:?} for a tensor with {rank} axes"));
        }
        Some(order) => distinct_axes(order, rank)?,
    };
    Ok(Box::new(Transpose { order }))
}

impl Operator for Transpose {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let data = required(inputs, 0)?;
        if data.shape().len() != self.order.len() {
            return Err(format!("perm {:?} for {}", self.order, data.ty));
        }
        let shape: Vec<usize> = self.order.iter().map(|&a| data.shape()[a]).collect();
        Ok(vec![TensorType::new(data.dtype(), shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let ty = self.infer(&operands(inputs))?.remove(0);
        let data = required_tensor(inputs, 0)?;
        Ok(vec![pick(ty, data, |to, from| {
            for (&axis, &i) in self.order.iter().zip(to) {
                from[axis] = i;
            }
        })])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let data = emitter.input_type(0);
        let strides = strides(&data.shape);
        // Moving axes of extent 1 moves no data.
        let moved = self.order.iter().filter(|&&a| data.shape[a] != 1);
        if moved.is_sorted() {
            emitter.alias(0, 0);
            return Ok(());
        }
        let from: Vec<isize> = self.order.iter().map(|&a| strides[a] as isize).collect();
        let size = data.dtype.size();
        StridedCopy::to_dense(&emitter.output_type(0).shape, &from, 0).emit(emitter, 0, 0, size)
    }
}
