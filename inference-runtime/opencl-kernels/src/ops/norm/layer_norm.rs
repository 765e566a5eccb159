//! `LayerNormalization`, `RMSNormalization` and the fused residual sum before them.

use crate::ops::elementwise::attributes::{axis, only};
use crate::ops::elementwise::axes::int;
use crate::ops::elementwise::binary;
use crate::ops::elementwise::broadcast::{broadcasts_to, positions};
use crate::ops::elementwise::numbers::{float_tensor, floats};
use crate::ops::elementwise::operation::Operation;
use crate::ops::reduce::rows::Rows;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, Shape, TensorType};

const SOURCE: Source = Source {
    name: "layer_norm.cl",
    text: concat!(include_str!("../reduce/group.cl"), include_str!("layer_norm.cl")),
};

/// LayerNormalization-17 (inputs X, Scale, B?; outputs Y, Mean?, `InvStdDev`?), RMSNormalization-23 (inputs X, scale)
/// and the fused `SkipLayerNorm` (inputs X, Residual, Scale, B?; outputs Y, Sum?), which normalizes X + Residual.
#[derive(Debug, Clone, PartialEq)]
struct LayerNorm {
    form: Form,
    axis: usize,
    epsilon: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Rms,
    Skip,
}

/// Lowers `LayerNormalization` and `RMSNormalization`.
pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only(node, &["axis", "epsilon", "stash_type"])?;
    if node.int("stash_type", 1) != 1 {
        return Err("stash_type is not 1 (float32)".to_owned());
    }
    let form = if node.node().op_type == "RMSNormalization" {
        Form::Rms
    } else {
        Form::Plain
    };
    lower(node, form, axis(node.int("axis", -1), node.rank(0)?)?)
}

/// Lowers the fused `SkipLayerNorm`, which normalizes the last axis.
pub(super) fn construct_fused(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only(node, &["epsilon"])?;
    lower(node, Form::Skip, axis(-1, node.rank(0)?)?)
}

fn lower(node: &NodeView<'_>, form: Form, axis: usize) -> Result<Box<dyn Operator>, String> {
    for i in (0..node.inputs()).filter(|&i| node.has_input(i)) {
        node.require_dtype(i, &[DType::F32])?;
    }
    Ok(Box::new(LayerNorm {
        form,
        axis,
        epsilon: node.float("epsilon", 1e-5),
    }))
}

/// The inputs by their roles.
#[derive(Debug, Clone, Copy)]
struct Roles<T> {
    x: T,
    residual: Option<T>,
    scale: T,
    bias: Option<T>,
}

impl LayerNorm {
    /// Where the inputs stand.
    fn positions(&self) -> (Option<usize>, usize, usize) {
        match self.form {
            Form::Plain | Form::Rms => (None, 1, 2),
            Form::Skip => (Some(1), 2, 3),
        }
    }

    fn roles<T: Copy>(&self, inputs: &[Option<T>]) -> Result<Roles<T>, Reason> {
        let (residual, scale, bias) = self.positions();
        let given = |i: usize| inputs.get(i).copied().flatten();
        let required = |i: usize| given(i).ok_or_else(|| format!("input {i} is missing"));
        Ok(Roles {
            x: required(0)?,
            residual: residual.map(required).transpose()?,
            scale: required(scale)?,
            bias: given(bias),
        })
    }

    /// The shape of Mean and `InvStdDev`: every normalized axis is 1.
    fn statistics(&self, x: &[usize]) -> Shape {
        let mut shape = x.to_vec();
        shape[self.axis..].fill(1);
        shape
    }

    /// Whether an operand has one element for each of a row and the same ones for every row.
    fn is_row(&self, operand: &[usize], x: &[usize]) -> bool {
        let skipped = x.len() - operand.len();
        let extent = |axis: usize| axis.checked_sub(skipped).map_or(1, |i| operand[i]);
        (0..x.len()).all(|axis| extent(axis) == if axis < self.axis { 1 } else { x[axis] })
    }
}

/// Refuses shapes that do not fit together.
fn check(shapes: Roles<&[usize]>) -> Result<(), Reason> {
    broadcasts_to(shapes.scale, shapes.x, "the scale")?;
    if let Some(bias) = shapes.bias {
        broadcasts_to(bias, shapes.x, "the bias")?;
    }
    match shapes.residual {
        Some(residual) if residual != shapes.x => Err(format!(
            "a residual of shape {residual:?} is added to {:?}",
            shapes.x
        )),
        _ => Ok(()),
    }
}

impl Operator for LayerNorm {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let shapes: Vec<Option<&[usize]>> = inputs
            .iter()
            .map(|input| input.as_ref().map(|input| input.ty.shape.as_slice()))
            .collect();
        let shapes = self.roles(&shapes)?;
        check(shapes)?;
        let x = TensorType::new(DType::F32, shapes.x);
        let statistics = TensorType::new(DType::F32, self.statistics(shapes.x));
        Ok(match self.form {
            Form::Plain => vec![x, statistics.clone(), statistics],
            Form::Rms => vec![x],
            Form::Skip => vec![x.clone(), x],
        })
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let inputs = self.roles(inputs)?;
        let shape = inputs.x.shape();
        check(Roles {
            x: shape,
            residual: inputs.residual.map(HostTensor::shape),
            scale: inputs.scale.shape(),
            bias: inputs.bias.map(HostTensor::shape),
        })?;
        let mut values = floats(inputs.x)?;
        if let Some(residual) = inputs.residual {
            for (value, residual) in values.iter_mut().zip(floats(residual)?) {
                *value += residual;
            }
        }
        let sum = float_tensor(shape, values.iter().copied());
        let n = shape[self.axis..].iter().product::<usize>();
        let (mut means, mut inverses) = (Vec::new(), Vec::new());
        for row in values.chunks_mut(n.max(1)) {
            let mean = match self.form {
                Form::Rms => 0.0,
                Form::Plain | Form::Skip => row.iter().sum::<f64>() / n as f64,
            };
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
            let inverse = 1.0 / (variance + f64::from(self.epsilon)).sqrt();
            for v in row {
                *v = (*v - mean) * inverse;
            }
            means.push(mean);
            inverses.push(inverse);
        }
        let scale = floats(inputs.scale)?;
        for (value, at) in values.iter_mut().zip(positions(shape, inputs.scale.shape())) {
            *value *= scale[at];
        }
        if let Some(bias) = inputs.bias {
            let bias_values = floats(bias)?;
            for (value, at) in values.iter_mut().zip(positions(shape, bias.shape())) {
                *value += bias_values[at];
            }
        }
        let y = float_tensor(shape, values);
        let statistics = self.statistics(shape);
        // An empty row has no elements to take a mean of, but a place for it.
        let rows = statistics.iter().product();
        means.resize(rows, f64::NAN);
        inverses.resize(rows, f64::NAN);
        Ok(match self.form {
            Form::Plain => vec![
                y,
                float_tensor(statistics.clone(), means),
                float_tensor(statistics, inverses),
            ],
            Form::Rms => vec![y],
            Form::Skip => vec![y, sum],
        })
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let shape = emitter.output_type(0).shape.clone();
        let n = shape[self.axis..].iter().product::<usize>();
        let count = self.statistics(&shape).iter().product::<usize>();
        let rows = Rows::new(emitter.device().kind, n);
        let mut options: Vec<String> = rows.option().into_iter().collect();
        let mut option = |name: &str| options.push(format!("-D{name}"));

        let (residual, scale, bias) = self.positions();
        let shape_of = |emitter: &Emitter<'_>, i: usize| emitter.input(i).map(|input| input.shape().clone());
        let scale_shape = shape_of(emitter, scale).ok_or("the scale is missing")?;
        let bias_shape = shape_of(emitter, bias);
        let scale_in_kernel = self.is_row(&scale_shape, &shape);
        let bias_in_kernel =
            scale_in_kernel && bias_shape.as_ref().is_some_and(|bias| self.is_row(bias, &shape));

        let y = emitter.write(0);
        let x = emitter.read(0);
        // What a variant of the kernel does not touch is bound to something that exists.
        let [mut sum, mut means, mut inverses] = [y.clone(), y.clone(), y.clone()];
        let [mut residual_arg, mut scale_arg, mut bias_arg] = [x.clone(), x.clone(), x.clone()];
        if self.form == Form::Rms {
            option("RMS");
        }
        if let Some(residual) = residual {
            option("SKIP");
            residual_arg = emitter.read(residual);
            if emitter.wants_output(1) {
                option("KEEP_SUM");
                sum = emitter.write(1);
            }
        } else if emitter.wants_output(1) || emitter.wants_output(2) {
            option("STATISTICS");
            means = emitter.write(1);
            inverses = emitter.write(2);
        }
        if scale_in_kernel {
            option("AFFINE");
            scale_arg = emitter.read(scale);
        }
        if bias_in_kernel {
            option("BIAS");
            bias_arg = emitter.read(bias);
        }
        let (global, local) = rows.work(count);
        emitter.launch(Launch {
            source: SOURCE,
            kernel: rows.kernel("layer_norm_group", "layer_norm_serial"),
            options,
            args: vec![
                y.clone(),
                sum,
                means,
                inverses,
                x,
                residual_arg,
                scale_arg,
                bias_arg,
                Arg::I32(int(n)?),
                Arg::F32(self.epsilon),
            ],
            global,
            local,
        });

        if !scale_in_kernel {
            let scale = (emitter.read(scale), scale_shape.as_slice());
            let y = (y.clone(), shape.as_slice());
            binary::Launch::of_floats(Operation::Mul).emit(emitter, y.clone(), [y, scale])?;
        }
        if let Some(bias_shape) = bias_shape
            && !bias_in_kernel
        {
            let bias = (emitter.read(bias), bias_shape.as_slice());
            let y = (y.clone(), shape.as_slice());
            binary::Launch::of_floats(Operation::Add).emit(emitter, y.clone(), [y, bias])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Attribute;
    use crate::runtime::DeviceKind;
    use crate::testing::{Case, numbers, tensor};

    const KINDS: [DeviceKind; 2] = [DeviceKind::Cpu, DeviceKind::Gpu];

    fn assert_near(actual: &HostTensor, expected: &[f32]) {
        let actual = actual.to_f32().unwrap();
        assert_eq!(actual.len(), expected.len());
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() < 2e-6 || (a.is_nan() && e.is_nan()), "{a}, not {e}");
        }
    }

    fn layer_norm(axis: i64) -> Case {
        Case::new("LayerNormalization", 17)
            .attr("axis", Attribute::Int(axis))
            .within(1e-6, 2e-6)
    }

    #[test]
    fn values_of_layer_normalization() {
        // Mean 2.5, variance 1.25; epsilon 0.
        let x = HostTensor::f32([1, 4], &[1.0, 2.0, 3.0, 4.0]);
        let scale = HostTensor::f32([4], &[1.0, 2.0, 1.0, 2.0]);
        let bias = HostTensor::f32([4], &[0.0, 0.0, 10.0, 10.0]);
        for kind in KINDS {
            let case = layer_norm(-1)
                .attr("epsilon", Attribute::Float(0.0))
                .input(x.clone());
            let case = case.constant(scale.clone()).constant(bias.clone());
            let case = case
                .output(DType::F32, 2)
                .output(DType::F32, 2)
                .output(DType::F32, 2);
            let y = case.check_as(kind);
            assert_near(&y[0], &[-1.341_640_8, -0.894_427_2, 10.447_214, 12.683_282]);
            assert_near(&y[1], &[2.5]);
            assert_near(&y[2], &[0.894_427_2]);
            assert_eq!(y[1].shape(), [1, 1]);
        }
    }

    #[test]
    fn values_of_rms_normalization() {
        // Mean of squares 7.5.
        let x = HostTensor::f32([4], &[1.0, -2.0, 3.0, -4.0]);
        let case = Case::new("RMSNormalization", 23)
            .attr("epsilon", Attribute::Float(0.0))
            .input(x);
        let case = case.input(HostTensor::f32([4], &[1.0, 1.0, 2.0, 1.0]));
        for kind in KINDS {
            let y = case.check_as(kind);
            assert_near(&y[0], &[0.365_148_37, -0.730_296_73, 2.190_890_3, -1.460_593_5]);
        }
    }

    #[test]
    fn every_axis_and_length() {
        let shapes: [&[usize]; 6] = [&[1], &[9], &[3, 64], &[2, 3, 5], &[2, 1, 3, 100], &[4, 384]];
        for shape in shapes {
            for axis in 0..shape.len() {
                let scale = tensor(&shape[axis..], 2);
                let bias = tensor(&shape[axis..], 3);
                for kind in KINDS {
                    let case = layer_norm(axis as i64)
                        .input(tensor(shape, 1))
                        .input(scale.clone());
                    case.check_as(kind);
                    case.clone().input(bias.clone()).check_as(kind);
                    let rms = Case::new("RMSNormalization", 23).attr("axis", Attribute::Int(axis as i64));
                    rms.input(tensor(shape, 1))
                        .input(scale.clone())
                        .within(1e-6, 2e-6)
                        .check_as(kind);
                }
            }
        }
    }

    #[test]
    fn scale_and_bias_broadcast() {
        let shapes: [(&[usize], &[usize]); 7] = [
            (&[1], &[3]),
            (&[], &[2, 1]),
            (&[2, 2, 3], &[1]),
            (&[2, 1, 3], &[2, 2, 1]),
            (&[3], &[2, 1, 1]),
            (&[2, 3], &[1, 2, 3]),
            (&[2, 1], &[2, 3]),
        ];
        for (scale, bias) in shapes {
            for axis in [1, 2] {
                let case = layer_norm(axis)
                    .input(tensor(&[2, 2, 3], 1))
                    .input(tensor(scale, 2));
                case.input(tensor(bias, 3)).check();
            }
        }
        // As long as a row, but not along it.
        layer_norm(1)
            .input(tensor(&[3, 3], 1))
            .input(tensor(&[3, 1], 2))
            .check();
        let refused = layer_norm(1)
            .input(tensor(&[2, 3], 1))
            .input(tensor(&[2], 2))
            .refusal();
        assert!(refused.to_string().contains("the scale"), "{refused}");
    }

    #[test]
    fn a_large_mean_does_not_cost_the_variance() {
        let x: Vec<f32> = numbers(5 * 2000, 9).iter().map(|x| 1000.0 + x).collect();
        let x = HostTensor::f32([5, 2000], &x);
        for kind in KINDS {
            let case = layer_norm(-1).input(x.clone()).constant(tensor(&[2000], 2));
            // The inputs' own rounding, 6e-5 at 1000, is of the size of the allowance.
            case.within(3e-4, 3e-4).check_as(kind);
        }
    }

    #[test]
    fn long_rows_stay_accurate() {
        let case = layer_norm(0)
            .input(tensor(&[40_001], 1))
            .constant(tensor(&[40_001], 2));
        for kind in KINDS {
            case.check_as(kind);
        }
    }

    #[test]
    fn a_constant_row_without_epsilon_is_nan() {
        let case = layer_norm(1).attr("epsilon", Attribute::Float(0.0));
        let case = case
            .input(HostTensor::f32([1, 2], &[3.0, 3.0]))
            .input(HostTensor::f32([2], &[1.0, 1.0]));
        for kind in KINDS {
            assert_near(&case.check_as(kind)[0], &[f32::NAN, f32::NAN]);
        }
    }

    #[test]
    fn statistics_without_rows_of_elements_are_not_needed() {
        layer_norm(1)
            .input(tensor(&[0, 3], 1))
            .input(tensor(&[3], 1))
            .check();
    }

    #[test]
    fn the_residual_is_added_first_and_the_sum_is_kept() {
        let (x, residual) = (tensor(&[2, 5, 33], 1), tensor(&[2, 5, 33], 2));
        let sum: Vec<f32> = x
            .to_f32()
            .unwrap()
            .iter()
            .zip(residual.to_f32().unwrap())
            .map(|(x, r)| x + r)
            .collect();
        for kind in KINDS {
            for bias in [false, true] {
                let case = Case::fused("SkipLayerNorm").attr("epsilon", Attribute::Float(1e-12));
                let case = case
                    .input(x.clone())
                    .input(residual.clone())
                    .constant(tensor(&[33], 3));
                let case = if bias {
                    case.constant(tensor(&[33], 4))
                } else {
                    case
                };
                let case = case.within(1e-6, 2e-6);
                let both = case
                    .clone()
                    .output(DType::F32, 3)
                    .output(DType::F32, 3)
                    .check_as(kind);
                assert_near(&both[1], &sum);
                assert_eq!(case.check_as(kind)[0], both[0]);
            }
        }
    }

    #[test]
    fn a_residual_of_another_shape_is_refused() {
        let case = Case::fused("SkipLayerNorm")
            .input(tensor(&[2, 3], 1))
            .input(tensor(&[1, 3], 2));
        let error = case.input(tensor(&[3], 3)).refusal();
        assert!(error.to_string().contains("[1, 3] is added to [2, 3]"), "{error}");
    }
}
