//! `ArgMax`, `ArgMin` and Hardmax: where the extremes are.

use super::column::Columns;
use super::rows::Rows;
use crate::ops::elementwise::attributes::{axis, flag, only};
use crate::ops::elementwise::axes::int;
use crate::ops::elementwise::map::GROUP;
use crate::ops::elementwise::numbers::{INTEGERS, float_tensor, floats, integers};
use crate::ops::elementwise::unary::cl_name;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::runtime::DeviceKind;
use crate::tensor::{DType, HostTensor, Shape, TensorType};

const SOURCE: Source = Source {
    name: "extreme.cl",
    text: include_str!("extreme.cl"),
};

/// Columns shorter than this are not worth a work-group.
const SHORTEST_FOR_A_GROUP: usize = 64;

/// ArgMax-1, ArgMin-1 and later: the index of the first (or last) extreme along an axis.
///
/// A NaN in the first place is at an extreme, others are passed over: ONNX leaves it open, ONNX Runtime does this.
#[derive(Debug, Clone, PartialEq)]
struct Extreme {
    dtype: DType,
    axis: usize,
    keep: bool,
    smallest: bool,
    last: bool,
}

/// Lowers `ArgMax` and `ArgMin`.
pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only(node, &["axis", "keepdims", "select_last_index"])?;
    let dtype = node.dtype(0)?;
    if dtype != DType::F32 && !INTEGERS.contains(&dtype) {
        return Err(format!("input 0 is {dtype}"));
    }
    Ok(Box::new(Extreme {
        dtype,
        axis: axis(node.int("axis", 0), node.rank(0)?)?,
        keep: flag(node, "keepdims", true)?,
        smallest: node.node().op_type == "ArgMin",
        last: flag(node, "select_last_index", false)?,
    }))
}

impl Extreme {
    fn options(&self) -> Result<Vec<String>, Reason> {
        let mut options = vec![format!("-DTYPE={}", cl_name(self.dtype)?)];
        if self.smallest {
            options.push("-DSMALLEST".to_owned());
        }
        if self.last {
            options.push("-DLAST".to_owned());
        }
        Ok(options)
    }

    fn shape(&self, x: &[usize]) -> Shape {
        let mut shape = x.to_vec();
        if self.keep {
            shape[self.axis] = 1;
        } else {
            shape.remove(self.axis);
        }
        shape
    }
}

/// The index of the extreme; `better` says whether its first argument beats the record.
fn find<T: Copy>(column: impl Iterator<Item = T>, better: impl Fn(T, T) -> bool) -> usize {
    let mut column = column.enumerate();
    let Some((mut best, mut record)) = column.next() else {
        return 0;
    };
    for (i, v) in column {
        if better(v, record) {
            (best, record) = (i, v);
        }
    }
    best
}

impl Operator for Extreme {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let [Some(x)] = inputs else {
            return Err(format!("one input expected, {} given", inputs.len()));
        };
        let shape = self.shape(x.shape());
        if x.shape()[self.axis] == 0 && !shape.contains(&0) {
            return Err(format!(
                "axis {} of {} has no elements to choose from",
                self.axis, x.ty
            ));
        }
        Ok(vec![TensorType::new(DType::I64, shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let [Some(x)] = inputs else {
            return Err(format!("one input expected, {} given", inputs.len()));
        };
        let columns = Columns::along(x.shape(), self.axis);
        let places: Vec<i64> = if self.dtype.is_float() {
            let x = floats(x)?;
            let better = |a: f64, b: f64| match (self.smallest, self.last) {
                (false, false) => a > b,
                (false, true) => a >= b,
                (true, false) => a < b,
                (true, true) => a <= b,
            };
            let find = |column| find(columns.positions(column).map(|at| x[at]), better) as i64;
            (0..columns.count).map(find).collect()
        } else {
            let x = integers(x)?;
            let better = |a: i128, b: i128| match (self.smallest, self.last) {
                (false, false) => a > b,
                (false, true) => a >= b,
                (true, false) => a < b,
                (true, true) => a <= b,
            };
            let find = |column| find(columns.positions(column).map(|at| x[at]), better) as i64;
            (0..columns.count).map(find).collect()
        };
        let shape = self.shape(x.shape());
        Ok(vec![HostTensor::i64(
            shape.clone(),
            &places[..shape.iter().product()],
        )])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let columns = Columns::along(&emitter.input_type(0).shape, self.axis);
        let device = emitter.device().kind;
        let grouped =
            device == DeviceKind::Gpu && columns.length >= SHORTEST_FOR_A_GROUP && columns.stride == 1;
        let mut options = self.options()?;
        let (kernel, (global, local)) = if grouped {
            let rows = Rows::new(device, columns.length);
            options.extend(rows.option());
            ("extreme_group", rows.work(columns.count))
        } else {
            ("extreme_serial", ([columns.count, 1, 1], GROUP))
        };
        let args = args(emitter, columns)?;
        emitter.launch(Launch {
            source: SOURCE,
            kernel,
            options,
            args,
            global,
            local,
        });
        Ok(())
    }
}

/// `y, x, uint columns, int n, int stride`
fn args(emitter: &mut Emitter<'_>, columns: Columns) -> Result<Vec<Arg>, Reason> {
    Ok(vec![
        emitter.write(0),
        emitter.read(0),
        Arg::U32(int(columns.count)? as u32),
        Arg::I32(int(columns.length)?),
        Arg::I32(int(columns.stride)?),
    ])
}

/// Hardmax-1 and later: 1 at the first largest element along an axis, 0 elsewhere.
#[derive(Debug, Clone, PartialEq)]
struct Hardmax {
    axis: usize,
    /// Whether all axes from `axis` on are one, as before version 13.
    flatten: bool,
}

/// Lowers Hardmax.
pub(super) fn construct_hardmax(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only(node, &["axis"])?;
    node.require_dtype(0, &[DType::F32])?;
    let flatten = node.node().since_version < 13;
    let default = if flatten { 1 } else { -1 };
    Ok(Box::new(Hardmax {
        axis: axis(node.int("axis", default), node.rank(0)?)?,
        flatten,
    }))
}

impl Hardmax {
    fn columns(&self, shape: &[usize]) -> Columns {
        if self.flatten {
            Columns::flattened(shape, self.axis)
        } else {
            Columns::along(shape, self.axis)
        }
    }
}

impl Operator for Hardmax {
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
        let columns = self.columns(x.shape());
        let values = floats(x)?;
        let mut result = vec![0.0; values.len()];
        for column in (0..columns.count).filter(|_| columns.length > 0) {
            let best = find(columns.positions(column).map(|at| values[at]), |a, b| a > b);
            result[columns.start(column) + best * columns.stride] = 1.0;
        }
        Ok(vec![float_tensor(x.shape(), result)])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let columns = self.columns(&emitter.input_type(0).shape);
        let args = args(emitter, columns)?;
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "hardmax",
            options: Vec::new(),
            args,
            global: [columns.count, 1, 1],
            local: GROUP,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Attribute;
    use crate::ops::elementwise::numbers::integer_tensor;
    use crate::testing::{Case, tensor};

    const KINDS: [DeviceKind; 2] = [DeviceKind::Cpu, DeviceKind::Gpu];

    fn extreme(op_type: &str, axis: i64, last: bool) -> Case {
        let case = Case::new(op_type, 13).attr("axis", Attribute::Int(axis));
        case.attr("select_last_index", Attribute::Int(i64::from(last)))
    }

    fn run(case: Case, x: HostTensor, kind: DeviceKind) -> Vec<i64> {
        let rank = x.shape().len();
        case.input(x).output(DType::I64, rank).check_as(kind)[0]
            .to_i64()
            .unwrap()
    }

    #[test]
    fn first_and_last_of_equals() {
        let x = HostTensor::f32([3, 3], &[0.0, 2.0, 2.0, 1.0, 2.0, 1.0, -1.0, -1.0, -2.0]);
        for kind in KINDS {
            assert_eq!(run(extreme("ArgMax", 1, false), x.clone(), kind), [1, 1, 0]);
            assert_eq!(run(extreme("ArgMax", 1, true), x.clone(), kind), [2, 1, 1]);
            assert_eq!(run(extreme("ArgMin", 1, false), x.clone(), kind), [0, 0, 2]);
            assert_eq!(run(extreme("ArgMin", 1, true), x.clone(), kind), [0, 2, 2]);
            assert_eq!(run(extreme("ArgMax", 0, true), x.clone(), kind), [1, 1, 0]);
        }
    }

    #[test]
    fn the_axis_is_kept_or_lost() {
        let x = tensor(&[2, 3, 4], 1);
        let kept = extreme("ArgMax", -2, false)
            .input(x.clone())
            .output(DType::I64, 3)
            .check();
        assert_eq!(kept[0].shape(), [2, 1, 4]);
        let lost = extreme("ArgMax", -2, false)
            .attr("keepdims", Attribute::Int(0))
            .input(x);
        assert_eq!(lost.output(DType::I64, 2).check()[0].shape(), [2, 4]);
    }

    #[test]
    fn long_rows_with_many_equals() {
        let values: Vec<f32> = (0..3 * 1500).map(|i| ((i * 7919) % 97) as f32).collect();
        let x = HostTensor::f32([3, 1500], &values);
        let short = HostTensor::f32([45, 100], &values);
        for op_type in ["ArgMax", "ArgMin"] {
            for last in [false, true] {
                for kind in KINDS {
                    run(extreme(op_type, 1, last), x.clone(), kind);
                    run(extreme(op_type, 1, last), short.clone(), kind);
                }
            }
        }
    }

    #[test]
    fn nan_counts_in_the_first_place_only() {
        const NAN: f32 = f32::NAN;
        for length in [4, 200] {
            let mut rows = vec![0.5; 3 * length];
            rows[0] = NAN;
            rows[length + 1] = NAN;
            rows[length + 2] = 3.0;
            rows[2 * length..].fill(NAN);
            let x = HostTensor::f32([3, length], &rows);
            for kind in KINDS {
                assert_eq!(run(extreme("ArgMax", 1, false), x.clone(), kind), [0, 2, 0]);
                assert_eq!(run(extreme("ArgMin", 1, false), x.clone(), kind), [0, 0, 0]);
                run(extreme("ArgMax", 1, true), x.clone(), kind);
            }
        }
    }

    #[test]
    fn infinities_are_extremes() {
        let row = [f32::NEG_INFINITY, 1.0, f32::INFINITY, f32::NEG_INFINITY];
        let x = HostTensor::f32([1, 128], &row.repeat(32));
        for kind in KINDS {
            assert_eq!(run(extreme("ArgMax", 1, false), x.clone(), kind), [2]);
            assert_eq!(run(extreme("ArgMin", 1, true), x.clone(), kind), [127]);
        }
    }

    #[test]
    fn integers_of_every_type() {
        for dtype in INTEGERS {
            let x = integer_tensor(dtype, [4], [3, 100, 0, 100]);
            assert_eq!(run(extreme("ArgMax", 0, false), x.clone(), DeviceKind::Cpu), [1]);
            assert_eq!(run(extreme("ArgMin", 0, false), x, DeviceKind::Cpu), [2]);
        }
    }

    #[test]
    fn an_empty_axis_is_refused_unless_nothing_is_asked() {
        let refused = extreme("ArgMax", 1, false)
            .input(tensor(&[2, 0], 1))
            .output(DType::I64, 2)
            .refusal();
        assert!(refused.to_string().contains("axis 1"), "{refused}");
        extreme("ArgMax", 1, false)
            .input(tensor(&[0, 3], 1))
            .output(DType::I64, 2)
            .check();
        extreme("ArgMax", 1, false)
            .input(tensor(&[0, 0], 1))
            .output(DType::I64, 2)
            .check();
    }

    #[test]
    fn hardmax_marks_the_first_largest() {
        let x = HostTensor::f32([2, 3], &[1.0, 3.0, 3.0, f32::NEG_INFINITY, -1.0, -2.0]);
        let y = Case::new("Hardmax", 13).input(x.clone()).check();
        assert_eq!(y[0].to_f32().unwrap(), [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        let columns = Case::new("Hardmax", 13)
            .attr("axis", Attribute::Int(0))
            .input(x)
            .check();
        assert_eq!(columns[0].to_f32().unwrap(), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        let flattened = Case::new("Hardmax", 11).input(tensor(&[2, 3, 4], 1)).check();
        let ones = |row: &[f32]| row.iter().filter(|y| **y > 0.0).count();
        assert!(
            flattened[0]
                .to_f32()
                .unwrap()
                .chunks(12)
                .all(|row| ones(row) == 1)
        );
    }
}
