//! `GroupNormalization` and `InstanceNormalization`: statistics per image and group of channels.

use crate::ops::elementwise::attributes::only;
use crate::ops::elementwise::axes::int;
use crate::ops::elementwise::numbers::{float_tensor, floats};
use crate::ops::movement::divisor::Divisor;
use crate::ops::reduce::rows::Rows;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "group_norm.cl",
    text: concat!(include_str!("../reduce/group.cl"), include_str!("group_norm.cl")),
};

/// InstanceNormalization-6 and -22 (a group is a channel), GroupNormalization-18 (scale and bias per group) and -21
/// (scale and bias per channel).
#[derive(Debug, Clone, PartialEq)]
struct GroupNorm {
    /// Number of groups; `None` for one per channel.
    groups: Option<usize>,
    /// Whether scale and bias have one number per group instead of one per channel.
    parameters_per_group: bool,
    epsilon: f32,
}

/// Lowers `InstanceNormalization` and `GroupNormalization`.
pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    for i in 0..3 {
        node.require_dtype(i, &[DType::F32])?;
    }
    if node.rank(0)? < 2 {
        return Err("the input has no channels".to_owned());
    }
    let groups = if node.node().op_type == "InstanceNormalization" {
        only(node, &["epsilon"])?;
        None
    } else {
        only(node, &["epsilon", "num_groups", "stash_type"])?;
        if node.int("stash_type", 1) != 1 {
            return Err("stash_type is not 1 (float32)".to_owned());
        }
        let groups = node.int("num_groups", 0);
        let groups = usize::try_from(groups).ok().filter(|&groups| groups > 0);
        Some(groups.ok_or("num_groups is not positive")?)
    };
    Ok(Box::new(GroupNorm {
        groups,
        parameters_per_group: groups.is_some() && node.node().since_version < 21,
        epsilon: node.float("epsilon", 1e-5),
    }))
}

/// A tensor seen as groups.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    /// Groups per image.
    groups: usize,
    /// Elements per group.
    length: usize,
    /// Scales (and biases) per group.
    parameters: usize,
    /// Elements that share a scale and a bias.
    span: usize,
}

impl GroupNorm {
    fn geometry(&self, shape: &[usize]) -> Result<Geometry, Reason> {
        let channels = shape[1];
        let groups = self.groups.unwrap_or(channels);
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(format!("{channels} channels do not make {groups} groups"));
        }
        let behind: usize = shape[2..].iter().product();
        let length = channels / groups * behind;
        let (parameters, span) = if self.parameters_per_group {
            (1, length)
        } else {
            (channels / groups, behind)
        };
        Ok(Geometry {
            groups,
            length,
            parameters,
            span,
        })
    }
}

impl Operator for GroupNorm {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let [Some(x), Some(scale), Some(bias)] = inputs else {
            return Err(format!("three inputs expected, {} given", inputs.len()));
        };
        // Without channels there are no groups, and nothing to be done.
        let expected = if x.shape()[1] == 0 {
            0
        } else {
            let geometry = self.geometry(x.shape())?;
            geometry.groups * geometry.parameters
        };
        for (parameter, what) in [(scale, "scale"), (bias, "bias")] {
            if *parameter.shape() != [expected] {
                return Err(format!("{what} is {}, expected {expected} numbers", parameter.ty));
            }
        }
        Ok(vec![x.ty.clone()])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let [Some(x), Some(scale), Some(bias)] = inputs else {
            return Err(format!("three inputs expected, {} given", inputs.len()));
        };
        let mut values = floats(x)?;
        if !values.is_empty() {
            let geometry = self.geometry(x.shape())?;
            let (scale, bias) = (floats(scale)?, floats(bias)?);
            for (group, values) in values.chunks_mut(geometry.length).enumerate() {
                let n = geometry.length as f64;
                let mean = values.iter().sum::<f64>() / n;
                let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
                let inverse = 1.0 / (variance + f64::from(self.epsilon)).sqrt();
                let first = group % geometry.groups * geometry.parameters;
                for (i, v) in values.iter_mut().enumerate() {
                    let k = first + i / geometry.span;
                    *v = (*v - mean) * inverse * scale[k] + bias[k];
                }
            }
        }
        Ok(vec![float_tensor(x.shape(), values)])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let ty = emitter.output_type(0).clone();
        let geometry = self.geometry(&ty.shape)?;
        let rows = Rows::new(emitter.device().kind, geometry.length);
        let divisor = Divisor::new(geometry.span);
        let mut args = vec![emitter.write(0)];
        args.extend((0..3).map(|i| emitter.read(i)));
        for number in [
            geometry.length,
            geometry.groups,
            geometry.parameters,
            geometry.span,
        ] {
            args.push(Arg::I32(int(number)?));
        }
        args.extend([
            Arg::U32(divisor.magic),
            Arg::U32(divisor.shift),
            Arg::F32(self.epsilon),
        ]);
        let (global, local) = rows.work(ty.elements() / geometry.length);
        emitter.launch(Launch {
            source: SOURCE,
            kernel: rows.kernel("group_norm_group", "group_norm_serial"),
            options: rows.option().into_iter().collect(),
            args,
            global,
            local,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Attribute;
    use crate::runtime::DeviceKind;
    use crate::testing::{Case, tensor};

    const KINDS: [DeviceKind; 2] = [DeviceKind::Cpu, DeviceKind::Gpu];

    fn group_norm(version: i32, groups: i64) -> Case {
        let case = Case::new("GroupNormalization", version).attr("num_groups", Attribute::Int(groups));
        case.within(1e-6, 2e-6)
    }

    fn instance_norm() -> Case {
        Case::new("InstanceNormalization", 22).within(1e-6, 2e-6)
    }

    #[test]
    fn values() {
        // Two images of two channels; without epsilon a pair becomes -1 and 1.
        let x = HostTensor::f32([2, 2, 2], &[1.0, 3.0, -5.0, 5.0, 0.0, 0.5, 8.0, 6.0]);
        let scale = HostTensor::f32([2], &[1.0, 2.0]);
        let bias = HostTensor::f32([2], &[0.0, 10.0]);
        for kind in KINDS {
            let case = instance_norm()
                .attr("epsilon", Attribute::Float(0.0))
                .input(x.clone());
            let y = case.constant(scale.clone()).constant(bias.clone()).check_as(kind);
            assert_eq!(
                y[0].to_f32().unwrap(),
                [-1.0, 1.0, 8.0, 12.0, -1.0, 1.0, 12.0, 8.0]
            );
        }
    }

    #[test]
    fn groups_of_every_size() {
        for shape in [&[2, 6, 5][..], &[1, 6, 3, 11], &[3, 6], &[2, 6, 1, 40]] {
            for groups in [1, 2, 3, 6] {
                for kind in KINDS {
                    let case = group_norm(21, groups).input(tensor(shape, 1));
                    case.input(tensor(&[6], 2)).input(tensor(&[6], 3)).check_as(kind);
                    let parameters = [groups as usize];
                    let case = group_norm(18, groups).input(tensor(shape, 1));
                    case.input(tensor(&parameters, 2))
                        .input(tensor(&parameters, 3))
                        .check_as(kind);
                }
            }
        }
    }

    #[test]
    fn a_group_of_one_channel_is_an_instance() {
        let (x, scale, bias) = (tensor(&[2, 3, 4, 5], 1), tensor(&[3], 2), tensor(&[3], 3));
        let instances = instance_norm()
            .input(x.clone())
            .input(scale.clone())
            .input(bias.clone())
            .check();
        let groups = group_norm(21, 3).input(x).input(scale).input(bias).check();
        assert_eq!(instances, groups);
    }

    #[test]
    fn large_groups_stay_accurate() {
        for kind in KINDS {
            let case = instance_norm().input(tensor(&[1, 2, 150, 151], 1));
            case.input(tensor(&[2], 2)).input(tensor(&[2], 3)).check_as(kind);
        }
    }

    #[test]
    fn empty_tensors_stay_empty() {
        for shape in [[0, 4, 3], [2, 4, 0], [2, 0, 3]] {
            let parameters = tensor(&[shape[1]], 1);
            let case = instance_norm().input(tensor(&shape, 1)).input(parameters.clone());
            case.input(parameters).check();
        }
    }

    #[test]
    fn channels_that_make_no_groups_are_refused() {
        let case = group_norm(21, 4).input(tensor(&[1, 6, 2], 1));
        let error = case.input(tensor(&[6], 2)).input(tensor(&[6], 3)).refusal();
        assert!(
            error.to_string().contains("6 channels do not make 4 groups"),
            "{error}"
        );
        let case = instance_norm()
            .input(tensor(&[1, 6, 2], 1))
            .input(tensor(&[5], 2));
        assert!(
            case.input(tensor(&[6], 3))
                .refusal()
                .to_string()
                .contains("scale")
        );
    }
}
