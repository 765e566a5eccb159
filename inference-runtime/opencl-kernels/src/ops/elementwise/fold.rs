//! Operators over any number of broadcast operands: Max, Min, Sum, Mean.

use super::attributes::only;
use super::binary::{self, Launch};
use super::broadcast::broadcast;
use super::operation::Operation;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{DType, HostTensor, TensorType};

/// A two-operand operation carried through all operands in order.
#[derive(Debug, Clone, PartialEq)]
struct Fold {
    operation: Operation,
    /// Whether the last result is divided by the number of operands.
    mean: bool,
    dtype: DType,
}

/// Lowers Max-6, Min-6, Sum-6, Mean-6 and later.
pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only(node, &[])?;
    let (operation, mean) = match node.node().op_type.as_str() {
        "Max" => (Operation::Max, false),
        "Min" => (Operation::Min, false),
        "Sum" => (Operation::ScaledSum, false),
        "Mean" => (Operation::ScaledSum, true),
        other => return Err(format!("'{other}' is not a fold")),
    };
    let dtype = node.dtype(0)?;
    for i in 0..node.inputs() {
        let other = node.dtype(i)?;
        if !operation.accepts(dtype, other) {
            return Err(format!("inputs are {dtype} and {other}"));
        }
    }
    Ok(Box::new(Fold {
        operation,
        mean,
        dtype,
    }))
}

impl Fold {
    /// The factor of step `step` of `steps`.
    fn factor(&self, step: usize, steps: usize) -> f32 {
        if self.mean && step == steps {
            1.0 / (steps + 1) as f32
        } else {
            1.0
        }
    }
}

impl Operator for Fold {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let shapes: Option<Vec<&[usize]>> = inputs
            .iter()
            .map(|input| Some(input.as_ref()?.ty.shape.as_slice()))
            .collect();
        let shapes = shapes.ok_or("an input is missing")?;
        Ok(vec![TensorType::new(self.dtype, broadcast(&shapes)?)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let [Some(first), rest @ ..] = inputs else {
            return Err("an input is missing".to_owned());
        };
        let mut result = (*first).clone();
        for (step, operand) in (1..).zip(rest) {
            let operand = operand.ok_or("an input is missing")?;
            let factor = f64::from(self.factor(step, rest.len()));
            result = binary::evaluate(self.operation, factor, &result, operand)?;
        }
        Ok(vec![result])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let steps = emitter.inputs() - 1;
        if steps == 0 {
            emitter.alias(0, 0);
            return Ok(());
        }
        let shape = emitter.output_type(0).shape.clone();
        let output = emitter.write(0);
        let mut so_far = (emitter.read(0), emitter.input_type(0).shape.clone());
        for step in 1..=steps {
            let operand = emitter.read(step);
            let operand_shape = emitter.input_type(step).shape.clone();
            let launch = Launch {
                operation: self.operation,
                types: (self.dtype, self.dtype),
                parameter: self.factor(step, steps),
            };
            launch.emit(
                emitter,
                (output.clone(), &shape),
                [(so_far.0, &so_far.1), (operand, &operand_shape)],
            )?;
            so_far = (output.clone(), shape.clone());
        }
        Ok(())
    }
}
