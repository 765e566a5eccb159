//! `BatchNormalization` with given statistics.

use crate::ops::elementwise::attributes::only;
use crate::ops::elementwise::axes::int;
use crate::ops::elementwise::map::{GROUP, Map};
use crate::ops::elementwise::numbers::{float_tensor, floats};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "scale_shift.cl",
    text: concat!(
        include_str!("scale_shift.cl"),
        include_str!("../elementwise/broadcast.cl")
    ),
};

/// BatchNormalization-7 to -15 in inference form: `y = (x - mean) / sqrt(variance + epsilon) · scale + bias`, each
/// of them one number per channel (axis 1; a tensor of one axis is one channel).
#[derive(Debug, Clone, PartialEq)]
struct BatchNorm {
    epsilon: f32,
    /// Whether scale, bias, mean and variance are constants of the graph, so that they can be folded once.
    constant: bool,
}

/// Lowers `BatchNormalization`.
pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only(node, &["epsilon", "momentum", "spatial", "training_mode"])?;
    for i in 0..5 {
        node.require_dtype(i, &[DType::F32])?;
    }
    if node.int("training_mode", 0) != 0 || (1..5).any(|i| node.wants_output(i)) {
        return Err("training mode".to_owned());
    }
    if node.int("spatial", 1) != 1 {
        return Err("statistics per element (spatial = 0)".to_owned());
    }
    Ok(Box::new(BatchNorm {
        epsilon: node.float("epsilon", 1e-5),
        constant: (1..5).all(|i| node.constant(i).is_some()),
    }))
}

fn channels(shape: &[usize]) -> usize {
    shape.get(1).copied().unwrap_or(1)
}

/// The shape of a number per channel that broadcasts to `shape`.
fn per_channel(shape: &[usize]) -> Vec<usize> {
    let mut extents = vec![channels(shape)];
    extents.resize(shape.len().saturating_sub(1).max(1), 1);
    extents
}

impl BatchNorm {
    /// The factor and the shift of each channel.
    fn fold(&self, parameters: [&HostTensor; 4]) -> Result<(Vec<f64>, Vec<f64>), Reason> {
        let [scale, bias, mean, variance] = parameters.map(floats);
        let (scale, bias, mean, variance) = (scale?, bias?, mean?, variance?);
        let factor = |(scale, variance): (&f64, &f64)| scale / (variance + f64::from(self.epsilon)).sqrt();
        let factors: Vec<f64> = scale.iter().zip(&variance).map(factor).collect();
        let shifts = bias
            .iter()
            .zip(&mean)
            .zip(&factors)
            .map(|((bias, mean), factor)| bias - mean * factor);
        let shifts = shifts.collect();
        Ok((factors, shifts))
    }

    /// The factor and the shift of each channel as kernel arguments.
    fn folded(&self, emitter: &mut Emitter<'_>, channels: usize) -> Result<[Arg; 2], Reason> {
        if self.constant {
            let known = |i: usize| emitter.input(i).and_then(|input| input.known.cloned());
            let parameters: Option<Vec<HostTensor>> = (1..5).map(known).collect();
            let parameters = parameters.ok_or("a constant has no value")?;
            let parameters: [&HostTensor; 4] = std::array::from_fn(|i| &parameters[i]);
            let fold = || self.fold(parameters).expect("lowering has required float32");
            return Ok([
                emitter.constant("factor", || float_tensor([channels], fold().0)),
                emitter.constant("shift", || float_tensor([channels], fold().1)),
            ]);
        }
        let bytes = channels * DType::F32.size();
        let folded = [emitter.scratch(bytes), emitter.scratch(bytes)];
        let mut args = folded.to_vec();
        args.extend((1..5).map(|i| emitter.read(i)));
        args.extend([Arg::I32(int(channels)?), Arg::F32(self.epsilon)]);
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "fold_statistics",
            options: Vec::new(),
            args,
            global: [channels, 1, 1],
            local: GROUP,
        });
        Ok(folded)
    }
}

impl Operator for BatchNorm {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let [Some(x), parameters @ ..] = inputs else {
            return Err("input 0 is missing".to_owned());
        };
        let expected = channels(x.shape());
        for (parameter, what) in parameters.iter().zip(["scale", "bias", "mean", "variance"]) {
            let ty = parameter.as_ref().ok_or_else(|| format!("{what} is missing"))?.ty;
            if ty.shape != [expected] {
                return Err(format!(
                    "{what} is {ty}, not one number for each of {expected} channels"
                ));
            }
        }
        Ok(vec![x.ty.clone()])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let [Some(x), Some(scale), Some(bias), Some(mean), Some(variance)] = inputs else {
            return Err(format!("five inputs expected, {} given", inputs.len()));
        };
        let (factors, shifts) = self.fold([scale, bias, mean, variance])?;
        let shape = x.shape();
        let behind: usize = shape.iter().skip(2).product();
        let channel = |i: usize| i / behind % channels(shape);
        let values = floats(x)?.into_iter().enumerate();
        let scaled = values.map(|(i, x)| x * factors[channel(i)] + shifts[channel(i)]);
        Ok(vec![float_tensor(shape, scaled)])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let shape = emitter.output_type(0).shape.clone();
        let [factor, shift] = self.folded(emitter, channels(&shape))?;
        let x = emitter.read(0);
        let y = emitter.write(0);
        let parameter = per_channel(&shape);
        let map = Map {
            source: SOURCE,
            options: Vec::new(),
            parameters: [0.0; 2],
        };
        map.emit(
            emitter,
            (y, &shape),
            [(x, &shape), (factor, &parameter), (shift, &parameter)],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Attribute;
    use crate::testing::{Case, numbers, tensor};

    fn parameters(channels: usize) -> [HostTensor; 4] {
        let variance: Vec<f32> = numbers(channels, 4).iter().map(|v| v.abs() + 0.1).collect();
        let [scale, bias, mean] = [1, 2, 3].map(|seed| tensor(&[channels], seed));
        [scale, bias, mean, HostTensor::f32([channels], &variance)]
    }

    #[test]
    fn values() {
        let case = Case::new("BatchNormalization", 15).attr("epsilon", Attribute::Float(0.0));
        let case = case.input(HostTensor::f32([1, 2, 2], &[1.0, 2.0, 3.0, 4.0]));
        let vectors = [[1.0, 2.0], [0.0, 10.0], [1.0, 3.0], [4.0, 0.25]];
        let case = vectors
            .iter()
            .fold(case, |case, v| case.constant(HostTensor::f32([2], v)));
        assert_eq!(case.check()[0].to_f32().unwrap(), [0.0, 0.5, 10.0, 14.0]);
    }

    #[test]
    fn every_rank_with_constant_and_computed_statistics() {
        let shapes: [&[usize]; 7] = [
            &[2, 3],
            &[5, 1],
            &[2, 40],
            &[1, 3, 33],
            &[2, 3, 5, 7],
            &[1, 2, 1, 3, 2],
            &[0, 3, 2],
        ];
        for shape in shapes {
            for version in [9, 14] {
                let case = Case::new("BatchNormalization", version)
                    .input(tensor(shape, 9))
                    .within(1e-6, 1e-5);
                parameters(shape[1])
                    .into_iter()
                    .fold(case.clone(), Case::constant)
                    .check();
                parameters(shape[1]).into_iter().fold(case, Case::input).check();
            }
        }
        let one_axis = Case::new("BatchNormalization", 15).input(tensor(&[5], 9));
        parameters(1).into_iter().fold(one_axis, Case::constant).check();
    }

    #[test]
    fn training_is_refused() {
        let case = Case::new("BatchNormalization", 15).attr("training_mode", Attribute::Int(1));
        let case = parameters(2)
            .into_iter()
            .fold(case.input(tensor(&[1, 2], 1)), Case::constant);
        assert!(case.refusal().to_string().contains("training"));
    }

    #[test]
    fn a_wrong_number_of_channels_is_refused() {
        let case = Case::new("BatchNormalization", 15).input(tensor(&[1, 3], 1));
        let error = parameters(2).into_iter().fold(case, Case::constant).refusal();
        assert!(error.to_string().contains("each of 3 channels"), "{error}");
    }
}
