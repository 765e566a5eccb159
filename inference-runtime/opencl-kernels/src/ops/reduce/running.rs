//! `CumSum`: running sums along an axis.

use super::column::Columns;
use crate::ops::elementwise::attributes::{axis, flag, only};
use crate::ops::elementwise::axes::int;
use crate::ops::elementwise::map::GROUP;
use crate::ops::elementwise::numbers::{INTEGERS, float_tensor, floats, integer_tensor, integers};
use crate::ops::elementwise::unary::cl_name;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "running.cl",
    text: include_str!("running.cl"),
};

/// CumSum-11, CumSum-14. The axis is input 1 and must be known when the graph is planned.
#[derive(Debug, Clone, PartialEq)]
struct RunningSum {
    dtype: DType,
    exclusive: bool,
    reverse: bool,
}

/// Lowers `CumSum`.
pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only(node, &["exclusive", "reverse"])?;
    let dtype = node.dtype(0)?;
    if dtype != DType::F32 && !INTEGERS.contains(&dtype) {
        return Err(format!("input 0 is {dtype}"));
    }
    if node.rank(0)? == 0 {
        return Err("a scalar has no axis to sum along".to_owned());
    }
    Ok(Box::new(RunningSum {
        dtype,
        exclusive: flag(node, "exclusive", false)?,
        reverse: flag(node, "reverse", false)?,
    }))
}

fn one_axis(given: &[i64], rank: usize) -> Result<usize, Reason> {
    match given {
        [one] => axis(*one, rank),
        _ => Err(format!("one axis expected, {} given", given.len())),
    }
}

/// The sums of a column in the order in which they run.
fn run<T: Copy>(
    positions: impl Iterator<Item = usize>,
    exclusive: bool,
    values: &mut [T],
    zero: T,
    add: impl Fn(T, T) -> T,
) {
    let mut sum = zero;
    for at in positions {
        let before = sum;
        sum = add(sum, values[at]);
        values[at] = if exclusive { before } else { sum };
    }
}

impl RunningSum {
    fn run<T: Copy>(&self, columns: Columns, values: &mut [T], zero: T, add: impl Fn(T, T) -> T) {
        for column in 0..columns.count {
            let positions = columns.positions(column);
            if self.reverse {
                run(positions.rev(), self.exclusive, values, zero, &add);
            } else {
                run(positions, self.exclusive, values, zero, &add);
            }
        }
    }
}

impl Operator for RunningSum {
    fn static_inputs(&self) -> &'static [usize] {
        &[1]
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let [Some(x), Some(axis)] = inputs else {
            return Err(format!("two inputs expected, {} given", inputs.len()));
        };
        one_axis(&axis.ints("the axis")?, x.ty.rank())?;
        Ok(vec![x.ty.clone()])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let [Some(x), Some(axis)] = inputs else {
            return Err(format!("two inputs expected, {} given", inputs.len()));
        };
        let axis = axis.to_i64().ok_or("the axis is not an integer")?;
        let columns = Columns::along(x.shape(), one_axis(&axis, x.shape().len())?);
        Ok(vec![if self.dtype.is_float() {
            let mut values = floats(x)?;
            self.run(columns, &mut values, 0.0, |a, b| a + b);
            float_tensor(x.shape(), values)
        } else {
            let mut values = integers(x)?;
            self.run(columns, &mut values, 0, i128::wrapping_add);
            integer_tensor(self.dtype, x.shape(), values)
        }])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let axis = emitter.input(1).ok_or("the axis is missing")?.ints("the axis")?;
        let shape = &emitter.input_type(0).shape;
        let columns = Columns::along(shape, one_axis(&axis, shape.len())?);
        let mut options = vec![format!("-DTYPE={}", cl_name(self.dtype)?)];
        if self.dtype.is_float() {
            options.push("-DCOMPENSATED".to_owned());
        }
        let launch = Launch {
            source: SOURCE,
            kernel: "running_sum",
            options,
            args: vec![
                emitter.write(0),
                emitter.read(0),
                Arg::U32(int(columns.count)? as u32),
                Arg::I32(int(columns.length)?),
                Arg::I32(int(columns.stride)?),
                Arg::I32(i32::from(self.exclusive)),
                Arg::I32(i32::from(self.reverse)),
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
    use crate::ops::elementwise::numbers::integer_tensor;
    use crate::testing::{Case, numbers, tensor};

    fn cum_sum(x: HostTensor, axis: i64, exclusive: bool, reverse: bool) -> Case {
        Case::new("CumSum", 14)
            .attr("exclusive", Attribute::Int(i64::from(exclusive)))
            .attr("reverse", Attribute::Int(i64::from(reverse)))
            .input(x)
            .constant(HostTensor::i64([], &[axis]))
            .within(1e-6, 1e-6)
    }

    #[test]
    fn directions() {
        let x = HostTensor::f32([3], &[1.0, 2.0, 3.0]);
        for (exclusive, reverse, expected) in [
            (false, false, [1.0, 3.0, 6.0]),
            (true, false, [0.0, 1.0, 3.0]),
            (false, true, [6.0, 5.0, 3.0]),
            (true, true, [5.0, 3.0, 0.0]),
        ] {
            let y = cum_sum(x.clone(), 0, exclusive, reverse).check();
            assert_eq!(y[0].to_f32().unwrap(), expected);
        }
    }

    #[test]
    fn every_axis() {
        for shape in [&[5][..], &[2, 3], &[2, 1, 4, 3], &[0, 3], &[3, 0]] {
            for axis in 0..shape.len() as i64 {
                cum_sum(tensor(shape, 1), axis, false, false).check();
                cum_sum(tensor(shape, 1), axis - shape.len() as i64, true, true).check();
            }
        }
    }

    #[test]
    fn the_axis_may_be_a_vector_of_one() {
        let axis = HostTensor::i32([1], &[-1]);
        let y = Case::new("CumSum", 11)
            .input(HostTensor::i64([3], &[1, 2, 3]))
            .constant(axis)
            .check();
        assert_eq!(y[0].to_i64().unwrap(), [1, 3, 6]);
        let two = Case::new("CumSum", 11)
            .input(tensor(&[2, 2], 1))
            .constant(HostTensor::i64([2], &[0, 1]));
        assert!(two.refusal().to_string().contains("one axis"));
        let out = cum_sum(tensor(&[2], 1), 1, false, false).refusal();
        assert!(out.to_string().contains("axis 1"), "{out}");
    }

    #[test]
    fn long_sums_stay_accurate() {
        let x: Vec<f32> = numbers(200_000, 2).iter().map(|x| 1.0 + x).collect();
        cum_sum(HostTensor::f32([200_000], &x), 0, false, false)
            .within(0.0, 2e-7)
            .check();
    }

    #[test]
    fn infinities_stay_infinite() {
        let x = HostTensor::f32([4], &[1.0, f32::INFINITY, 2.0, f32::NEG_INFINITY]);
        let y = cum_sum(x, 0, false, false).check()[0].to_f32().unwrap();
        assert_eq!(y[..3], [1.0, f32::INFINITY, f32::INFINITY]);
        assert!(y[3].is_nan());
    }

    #[test]
    fn integers_of_every_type() {
        for dtype in INTEGERS {
            cum_sum(integer_tensor(dtype, [4], [100, 100, 100, 3]), 0, false, true).check();
        }
    }
}
