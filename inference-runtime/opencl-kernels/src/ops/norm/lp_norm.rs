//! `LpNormalization`: columns of unit length.

use crate::ops::elementwise::attributes::{axis, only};
use crate::ops::elementwise::axes::int;
use crate::ops::elementwise::map::GROUP;
use crate::ops::elementwise::numbers::{float_tensor, floats};
use crate::ops::reduce::column::Columns;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "lp_norm.cl",
    text: include_str!("lp_norm.cl"),
};

/// LpNormalization-1, -22: each column of an axis divided by its L1 or L2 norm; a column of zeros stays one.
#[derive(Debug, Clone, PartialEq)]
struct LpNorm {
    axis: usize,
    p: Norm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Norm {
    L1,
    L2,
}

/// Lowers `LpNormalization`.
pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only(node, &["axis", "p"])?;
    node.require_dtype(0, &[DType::F32])?;
    Ok(Box::new(LpNorm {
        axis: axis(node.int("axis", -1), node.rank(0)?)?,
        p: match node.int("p", 2) {
            1 => Norm::L1,
            2 => Norm::L2,
            other => return Err(format!("p is {other}, neither 1 nor 2")),
        },
    }))
}

impl Operator for LpNorm {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let [Some(x)] = inputs else {
            return Err(format!("one input expected, {} given", inputs.len()));
        };
        Ok(vec![x.ty.clone()])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let [Some(x)] = inputs else {
            return Err(format!("one input expected, {} given", inputs.len()));
        };
        let columns = Columns::along(x.shape(), self.axis);
        let mut values = floats(x)?;
        for column in 0..columns.count {
            let lengths = columns.positions(column).map(|at| values[at]);
            let norm = match self.p {
                Norm::L1 => lengths.map(f64::abs).sum::<f64>(),
                Norm::L2 => lengths.map(|v| v * v).sum::<f64>().sqrt(),
            };
            for at in columns.positions(column) {
                values[at] = if norm == 0.0 { 0.0 } else { values[at] / norm };
            }
        }
        Ok(vec![float_tensor(x.shape(), values)])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let columns = Columns::along(&emitter.output_type(0).shape, self.axis);
        let p = match self.p {
            Norm::L1 => 1,
            Norm::L2 => 2,
        };
        let launch = Launch {
            source: SOURCE,
            kernel: "lp_norm",
            options: vec![format!("-DP={p}")],
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Attribute;
    use crate::testing::{Case, tensor};

    fn lp_norm(p: i64, axis: i64) -> Case {
        let case = Case::new("LpNormalization", 22).attr("p", Attribute::Int(p));
        case.attr("axis", Attribute::Int(axis)).within(1e-7, 1e-6)
    }

    #[test]
    fn values() {
        let x = HostTensor::f32([3, 2], &[3.0, -4.0, 0.0, 0.0, f32::NAN, 1.0]);
        let y = lp_norm(2, -1).input(x.clone()).check()[0].to_f32().unwrap();
        assert_eq!(y[..4], [0.6, -0.8, 0.0, 0.0]);
        assert!(y[4].is_nan() && y[5].is_nan());
        let y = lp_norm(1, 1).input(x).check()[0].to_f32().unwrap();
        assert!((y[0] - 3.0 / 7.0).abs() < 1e-7 && (y[1] + 4.0 / 7.0).abs() < 1e-7);
    }

    #[test]
    fn every_axis_and_norm() {
        for shape in [&[7][..], &[3, 384], &[2, 3, 5], &[2, 0, 3], &[200, 3]] {
            for axis in 0..shape.len() as i64 {
                for p in [1, 2] {
                    lp_norm(p, axis).input(tensor(shape, 1)).check();
                }
            }
        }
    }

    #[test]
    fn other_norms_are_refused() {
        assert!(
            lp_norm(3, 0)
                .input(tensor(&[2], 1))
                .refusal()
                .to_string()
                .contains("p is 3")
        );
    }
}
