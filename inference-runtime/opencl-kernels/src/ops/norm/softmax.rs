//! Softmax and `LogSoftmax`, and attention's softmax with its scale and mask.

use crate::ops::elementwise::attributes::{axis, only};
use crate::ops::elementwise::axes::{divisor_args, int, stride_arg};
use crate::ops::elementwise::broadcast::{Layout, broadcasts_to, positions};
use crate::ops::elementwise::map::GROUP;
use crate::ops::elementwise::numbers::{float_tensor, floats};
use crate::ops::reduce::column::Columns;
use crate::ops::reduce::rows::Rows;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "softmax.cl",
    text: concat!(
        include_str!("../elementwise/axes.cl"),
        include_str!("../reduce/group.cl"),
        include_str!("softmax.cl")
    ),
};

/// Softmax-1 and later, LogSoftmax-1 and later, and the fused `ScaledMaskedSoftmax` (inputs X and, optionally, Mask,
/// which broadcasts to X; attribute `scale`; over the last axis).
#[derive(Debug, Clone, PartialEq)]
struct Softmax {
    log: bool,
    axis: usize,
    /// Whether all axes from `axis` on are one, as before version 13.
    flatten: bool,
    scale: f32,
}

/// Lowers Softmax and `LogSoftmax`.
pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only(node, &["axis"])?;
    node.require_dtype(0, &[DType::F32])?;
    let flatten = node.node().since_version < 13;
    let default = if flatten { 1 } else { -1 };
    Ok(Box::new(Softmax {
        log: node.node().op_type == "LogSoftmax",
        axis: axis(node.int("axis", default), node.rank(0)?)?,
        flatten,
        scale: 1.0,
    }))
}

/// Lowers the fused `ScaledMaskedSoftmax`.
pub(super) fn construct_fused(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only(node, &["scale"])?;
    node.require_dtype(0, &[DType::F32])?;
    if node.has_input(1) {
        node.require_dtype(1, &[DType::F32])?;
    }
    Ok(Box::new(Softmax {
        log: false,
        axis: axis(-1, node.rank(0)?)?,
        flatten: false,
        scale: node.float("scale", 1.0),
    }))
}

impl Softmax {
    fn columns(&self, shape: &[usize]) -> Columns {
        if self.flatten {
            Columns::flattened(shape, self.axis)
        } else {
            Columns::along(shape, self.axis)
        }
    }

    fn emit_columns(&self, emitter: &mut Emitter<'_>, columns: Columns) -> Result<(), Reason> {
        let launch = Launch {
            source: SOURCE,
            kernel: "softmax_columns",
            options: self.log.then(|| "-DLOG".to_owned()).into_iter().collect(),
            args: vec![
                emitter.write(0),
                emitter.read(0),
                Arg::U32(int(columns.count)? as u32),
                Arg::I32(int(columns.length)?),
                Arg::I32(int(columns.stride)?),
            ],
            global: [columns.count, 1, 1],
            local: GROUP,
        };
        emitter.launch(launch);
        Ok(())
    }

    fn emit_rows(&self, emitter: &mut Emitter<'_>, (count, n): (usize, usize)) -> Result<(), Reason> {
        let shape = emitter.output_type(0).shape.clone();
        let rows = Rows::new(emitter.device().kind, n);
        let mut options: Vec<String> = rows.option().into_iter().collect();
        if self.log {
            options.push("-DLOG".to_owned());
        }
        let x = emitter.read(0);
        let mut args = vec![emitter.write(0), x.clone()];
        let mask = emitter.input(1).map(|mask| mask.ty.shape.clone());
        let mask_args = if let Some(mask) = &mask {
            options.push("-DMASK".to_owned());
            args.push(emitter.read(1));
            mask_args(&shape, mask)?
        } else {
            args.push(x);
            mask_args(&[1], &[])?
        };
        args.extend([Arg::I32(int(n)?), Arg::F32(self.scale)]);
        args.extend(mask_args);
        let (global, local) = rows.work(count);
        emitter.launch(Launch {
            source: SOURCE,
            kernel: rows.kernel("softmax_group", "softmax_serial"),
            options,
            args,
            global,
            local,
        });
        Ok(())
    }
}

/// `int mask_step, int inner, int8 extents, int8 magics, int8 shifts, int8 mask_strides`: where a row's mask lies.
fn mask_args(shape: &[usize], mask: &[usize]) -> Result<Vec<Arg>, Reason> {
    let (_, rows) = shape.split_last().ok_or("a scalar has no rows")?;
    let (length, mask_rows) = mask
        .split_last()
        .map_or((1, &[][..]), |(last, rows)| (*last, rows));
    let layout = Layout::new(rows, [mask_rows]);
    let strides: Vec<usize> = layout.strides_of(0).map(|stride| stride * length).collect();
    let mut args = vec![Arg::I32(i32::from(length != 1))];
    args.extend(divisor_args(&layout.extents)?);
    args.push(stride_arg(&strides)?);
    Ok(args)
}

impl Operator for Softmax {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let Some(Some(x)) = inputs.first() else {
            return Err("input 0 is missing".to_owned());
        };
        if let Some(Some(mask)) = inputs.get(1) {
            broadcasts_to(mask.shape(), x.shape(), "the mask")?;
        }
        Ok(vec![x.ty.clone()])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let Some(Some(x)) = inputs.first() else {
            return Err("input 0 is missing".to_owned());
        };
        let shape = x.shape();
        let scale = f64::from(self.scale);
        let mut values: Vec<f64> = floats(x)?.iter().map(|x| x * scale).collect();
        if let Some(Some(mask)) = inputs.get(1) {
            broadcasts_to(mask.shape(), shape, "the mask")?;
            let mask_values = floats(mask)?;
            for (value, at) in values.iter_mut().zip(positions(shape, mask.shape())) {
                *value += mask_values[at];
            }
        }
        let columns = self.columns(shape);
        for column in 0..columns.count {
            let scores: Vec<f64> = columns.positions(column).map(|at| values[at]).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
            for (at, s) in columns.positions(column).zip(scores) {
                values[at] = if self.log {
                    s - largest - sum.ln()
                } else {
                    (s - largest).exp() / sum
                };
            }
        }
        Ok(vec![float_tensor(shape, values)])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let columns = self.columns(&emitter.output_type(0).shape);
        if columns.stride == 1 {
            self.emit_rows(emitter, (columns.count, columns.length))
        } else {
            self.emit_columns(emitter, columns)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Attribute;
    use crate::runtime::DeviceKind;
    use crate::testing::{Case, tensor};

    use std::f32::consts::LN_2;

    const KINDS: [DeviceKind; 2] = [DeviceKind::Cpu, DeviceKind::Gpu];

    fn softmax(op_type: &str, version: i32, axis: i64) -> Case {
        Case::new(op_type, version)
            .attr("axis", Attribute::Int(axis))
            .within(1e-7, 1e-6)
    }

    fn assert_near(actual: &HostTensor, expected: &[f32]) {
        for (a, e) in actual.to_f32().unwrap().iter().zip(expected) {
            assert!((a - e).abs() < 1e-6 || (a.is_nan() && e.is_nan()), "{a}, not {e}");
        }
    }

    #[test]
    fn values() {
        let x = HostTensor::f32([2, 3], &[1.0, 2.0, 3.0, 1000.0, 1000.0, -1000.0]);
        for kind in KINDS {
            let y = softmax("Softmax", 13, -1).input(x.clone()).check_as(kind);
            assert_near(&y[0], &[0.090_030_57, 0.244_728_48, 0.665_240_94, 0.5, 0.5, 0.0]);
            let y = softmax("LogSoftmax", 13, 1).input(x.clone()).check_as(kind);
            assert_near(
                &y[0],
                &[-2.407_606, -1.407_605_9, -0.407_605_9, -LN_2, -LN_2, -2_000.693_1],
            );
        }
    }

    #[test]
    fn before_version_13_all_later_axes_are_one() {
        let x = HostTensor::f32([2, 2, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        let row = [0.032_058_6, 0.087_144_32, 0.236_882_8, 0.643_914_3];
        let y = Case::new("Softmax", 11).input(x.clone()).check();
        assert_near(&y[0], &[row, row].concat());
        let y = Case::new("Softmax", 13).input(x).check();
        assert_near(&y[0], &[0.268_941_43, 0.731_058_6].repeat(4));
    }

    #[test]
    fn every_axis_and_length() {
        let shapes: [&[usize]; 9] = [
            &[1],
            &[7],
            &[8],
            &[3, 64],
            &[2, 65],
            &[2, 3, 5],
            &[3, 1, 2, 4],
            &[2, 300, 3],
            &[0, 3],
        ];
        for shape in shapes {
            for axis in 0..shape.len() as i64 {
                for kind in KINDS {
                    softmax("Softmax", 13, axis)
                        .input(tensor(shape, 1))
                        .check_as(kind);
                    softmax("LogSoftmax", 13, axis)
                        .input(tensor(shape, 2))
                        .check_as(kind);
                }
            }
        }
    }

    #[test]
    fn long_rows_stay_accurate() {
        for kind in KINDS {
            softmax("Softmax", 13, -1)
                .within(0.0, 1e-6)
                .input(tensor(&[2, 30_000], 3))
                .check_as(kind);
            softmax("LogSoftmax", 13, 0)
                .within(0.0, 1e-6)
                .input(tensor(&[5000, 3], 3))
                .check_as(kind);
        }
    }

    #[test]
    fn rows_without_a_finite_maximum_are_nan() {
        const INF: f32 = f32::INFINITY;
        let rows = [
            [1.0, f32::NAN, 3.0],
            [INF, 2.0, -INF],
            [-INF, -INF, -INF],
            [-INF, 0.0, 0.0],
        ];
        let x = HostTensor::f32([4, 3], rows.as_flattened());
        let mut expected = vec![f32::NAN; 9];
        for kind in KINDS {
            expected.truncate(9);
            expected.extend([0.0, 0.5, 0.5]);
            assert_near(
                &softmax("Softmax", 13, -1).input(x.clone()).check_as(kind)[0],
                &expected,
            );
        }
        // The same as columns.
        let columns = HostTensor::f32([3, 2], &[f32::NAN, -INF, 1.0, 0.0, 2.0, 0.0]);
        let y = softmax("Softmax", 13, 0).input(columns).check();
        assert_near(&y[0], &[f32::NAN, 0.0, f32::NAN, 0.5, f32::NAN, 0.5]);
    }

    fn attention(x: &[usize], mask: &[usize], kind: DeviceKind) {
        let case = Case::fused("ScaledMaskedSoftmax")
            .attr("scale", Attribute::Float(0.25))
            .within(1e-7, 1e-6);
        case.input(tensor(x, 1)).input(tensor(mask, 2)).check_as(kind);
    }

    #[test]
    fn masks_broadcast() {
        for kind in KINDS {
            for mask in [
                &[2, 3, 5, 9][..],
                &[2, 1, 1, 9],
                &[2, 3, 1, 9],
                &[1, 1, 5, 9],
                &[2, 1, 5, 1],
                &[9],
                &[5, 1],
                &[],
            ] {
                attention(&[2, 3, 5, 9], mask, kind);
            }
            attention(&[2, 4, 3, 100], &[2, 1, 1, 100], kind);
        }
    }

    #[test]
    fn a_mask_is_added_after_the_scale() {
        let x = HostTensor::f32([1, 2], &[4.0, 8.0]);
        let mask = HostTensor::f32([2], &[0.0, -1.0]);
        let case = Case::fused("ScaledMaskedSoftmax").attr("scale", Attribute::Float(0.5));
        for kind in KINDS {
            let y = case.clone().input(x.clone()).input(mask.clone()).check_as(kind);
            assert_near(&y[0], &[0.268_941_43, 0.731_058_6]);
            let y = case.clone().input(x.clone()).check_as(kind);
            assert_near(&y[0], &[0.119_202_92, 0.880_797_1]);
        }
    }

    #[test]
    fn masked_out_scores_get_nothing() {
        for out in [f32::NEG_INFINITY, f32::MIN, -10_000.0] {
            let x = tensor(&[1, 2, 3, 20], 5);
            let mut mask = vec![0.0; 20];
            mask[7..].fill(out);
            for kind in KINDS {
                let case = Case::fused("ScaledMaskedSoftmax")
                    .input(x.clone())
                    .within(1e-7, 1e-6);
                let y = case.input(HostTensor::f32([1, 1, 1, 20], &mask)).check_as(kind)[0]
                    .to_f32()
                    .unwrap();
                for row in y.chunks(20) {
                    assert!((row[..7].iter().sum::<f32>() - 1.0).abs() < 1e-6);
                    assert!(row[7..].iter().all(|y| *y == 0.0), "{row:?}");
                }
            }
        }
    }

    #[test]
    fn a_mask_that_enlarges_the_scores_is_refused() {
        let case = Case::fused("ScaledMaskedSoftmax")
            .input(tensor(&[1, 3], 1))
            .input(tensor(&[2, 3], 1));
        assert!(case.refusal().to_string().contains("the mask"));
    }

    #[test]
    fn scalars_and_axes_out_of_range_are_refused() {
        assert!(
            Case::new("Softmax", 13)
                .input(tensor(&[], 1))
                .refusal()
                .to_string()
                .contains("axis -1")
        );
        assert!(
            softmax("Softmax", 13, 2)
                .input(tensor(&[2, 3], 1))
                .refusal()
                .to_string()
                .contains("axis 2")
        );
    }
}
