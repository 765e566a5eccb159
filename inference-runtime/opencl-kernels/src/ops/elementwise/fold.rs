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

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, HostTensor};
    use crate::testing::{Case, tensor};

    fn floats(shape: &[usize], values: &[f32]) -> HostTensor {
        HostTensor::f32(shape, values)
    }

    #[test]
    fn three_operands_broadcast_into_one() {
        let operands = || {
            [
                floats(&[2, 1], &[1.0, -4.0]),
                floats(&[3], &[2.0, 5.0, -6.0]),
                floats(&[], &[3.0]),
            ]
        };
        for (op_type, expected) in [
            ("Sum", [6.0, 9.0, -2.0, 1.0, 4.0, -7.0]),
            ("Mean", [2.0, 3.0, -2.0 / 3.0, 1.0 / 3.0, 4.0 / 3.0, -7.0 / 3.0]),
            ("Max", [3.0, 5.0, 3.0, 3.0, 5.0, 3.0]),
            ("Min", [1.0, 1.0, -6.0, -4.0, -4.0, -6.0]),
        ] {
            let case = operands().into_iter().fold(Case::new(op_type, 13), Case::input);
            let y = case.output(DType::F32, 2).within(1e-6, 1e-6).check();
            assert_eq!(y[0].shape(), [2, 3], "{op_type}");
            for (y, expected) in y[0].to_f32().unwrap().iter().zip(expected) {
                assert!((y - expected).abs() < 1e-6, "{op_type}: {y}, not {expected}");
            }
        }
    }

    #[test]
    fn one_operand_is_the_result() {
        for op_type in ["Sum", "Mean", "Max", "Min"] {
            let x = tensor(&[2, 3], 1);
            assert_eq!(Case::new(op_type, 8).input(x.clone()).check(), [x]);
        }
    }

    #[test]
    fn the_result_may_outgrow_every_operand_but_the_last() {
        let case = Case::new("Sum", 13)
            .input(tensor(&[1], 1))
            .input(tensor(&[3, 1], 2));
        case.input(tensor(&[2, 3, 40], 3)).output(DType::F32, 3).check();
    }

    #[test]
    fn extremes_of_integers_are_exact() {
        let a = HostTensor::i64([3], &[i64::MIN, 5, 1 << 60]);
        let b = HostTensor::i64([3], &[0, -5, (1 << 60) + 1]);
        let max = Case::new("Max", 12).input(a.clone()).input(b.clone()).check();
        assert_eq!(max[0].to_i64().unwrap(), [0, 5, (1 << 60) + 1]);
        let min = Case::new("Min", 12).input(a).input(b).check();
        assert_eq!(min[0].to_i64().unwrap(), [i64::MIN, -5, 1 << 60]);
    }

    #[test]
    fn nan_wins_from_any_place() {
        for place in 0..3 {
            let operand = |i| floats(&[], &[if i == place { f32::NAN } else { i as f32 }]);
            for op_type in ["Max", "Min"] {
                let case = (0..3).map(operand).fold(Case::new(op_type, 13), Case::input);
                assert!(
                    case.check()[0].to_f32().unwrap()[0].is_nan(),
                    "{op_type}, NaN at {place}"
                );
            }
        }
    }

    #[test]
    fn sums_of_integers_are_refused() {
        let case = Case::new("Sum", 13).input(HostTensor::i64([1], &[1]));
        assert!(case.refusal().to_string().contains("int64"));
    }
}
