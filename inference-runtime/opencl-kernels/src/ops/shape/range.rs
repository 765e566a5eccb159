//! Range: an arithmetic progression.

use crate::ops::movement::arguments::{only_attributes, operands, required};
use crate::ops::movement::strided::GROUP;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "range.cl",
    text: include_str!("range.cl"),
};

/// ONNX operator spec, Range-11 and Range-27: `start + i · delta` up to before `limit`. (ONNX Runtime adds `delta`
/// over and over instead, which drifts away from this for long ranges of floats.)
#[derive(Debug)]
struct Range;

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    // `stash_type` matters to 16-bit floats only.
    let attributes: &[&str] = if view.node().since_version < 27 {
        &[]
    } else {
        &["stash_type"]
    };
    only_attributes(view, attributes)?;
    let dtype = view.require_dtype(0, &[DType::F32, DType::I32, DType::I64])?;
    for other in 1..3 {
        view.require_dtype(other, &[dtype])?;
    }
    Ok(Box::new(Range))
}

/// A checked range.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Progression {
    Floats { start: f32, delta: f32, count: usize },
    Integers { start: i64, delta: i64, count: usize },
}

impl Progression {
    fn new(inputs: &[Option<Operand<'_>>]) -> Result<Self, Reason> {
        let scalar = |i: usize| {
            let operand = required(inputs, i)?;
            let known = operand
                .known
                .ok_or("a bound of the range depends on the request's data")?;
            if operand.ty.elements() == 1 {
                Ok(known)
            } else {
                Err(format!("a bound of the range is {}, not a scalar", operand.ty))
            }
        };
        let bounds = [scalar(0)?, scalar(1)?, scalar(2)?];
        if let [Some(start), Some(limit), Some(delta)] = bounds.map(HostTensor::to_f32) {
            return Self::of_floats(start[0], limit[0], delta[0]);
        }
        if let [Some(start), Some(limit), Some(delta)] = bounds.map(HostTensor::to_i64) {
            return Self::of_integers(start[0], limit[0], delta[0]);
        }
        Err(format!("a range of {}", bounds[0].dtype()))
    }

    fn of_floats(start: f32, limit: f32, delta: f32) -> Result<Self, Reason> {
        let count = ((f64::from(limit) - f64::from(start)) / f64::from(delta)).ceil();
        // Also where a bound is infinite or no number, or delta is 0.
        if !count.is_finite() || count >= LONGEST {
            return Err(format!("a range from {start} to {limit} by {delta}"));
        }
        Ok(Self::Floats {
            start,
            delta,
            count: count.max(0.0) as usize,
        })
    }

    fn of_integers(start: i64, limit: i64, delta: i64) -> Result<Self, Reason> {
        let refuse = || format!("a range from {start} to {limit} by {delta}");
        let distance = (i128::from(limit) - i128::from(start)) * i128::from(delta.signum());
        let step = i128::from(delta.unsigned_abs());
        let count = match (distance, step) {
            (_, 0) => return Err(refuse()),
            (..=0, _) => 0,
            _ => (distance - 1) / step + 1,
        };
        if count as f64 >= LONGEST {
            return Err(refuse());
        }
        Ok(Self::Integers {
            start,
            delta,
            count: count as usize,
        })
    }

    fn count(self) -> usize {
        match self {
            Self::Floats { count, .. } | Self::Integers { count, .. } => count,
        }
    }
}

/// A range that a mistaken bound makes longer than any tensor is an error, not an allocation.
const LONGEST: f64 = (1_u64 << 31) as f64;

impl Operator for Range {
    fn static_inputs(&self) -> &'static [usize] {
        &[0, 1, 2]
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let count = Progression::new(inputs)?.count();
        Ok(vec![TensorType::new(required(inputs, 0)?.dtype(), [count])])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let operands = operands(inputs);
        let dtype = required(&operands, 0)?.dtype();
        Ok(vec![match Progression::new(&operands)? {
            Progression::Floats { start, delta, count } => {
                let values: Vec<f32> = (0..count).map(|i| start + i as f32 * delta).collect();
                HostTensor::f32([count], &values)
            }
            Progression::Integers { start, delta, count } => {
                // The differences may leave the type, the values do not.
                let values = (0..count as i64).map(|i| start.wrapping_add(i.wrapping_mul(delta)));
                if dtype == DType::I32 {
                    HostTensor::i32([count], &values.map(|v| v as i32).collect::<Vec<_>>())
                } else {
                    HostTensor::i64([count], &values.collect::<Vec<_>>())
                }
            }
        }])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let progression = Progression::new(&[emitter.input(0), emitter.input(1), emitter.input(2)])?;
        let narrow = emitter.output_type(0).dtype == DType::I32;
        let (type_name, start, delta) = match progression {
            Progression::Floats { start, delta, .. } => ("float", Arg::F32(start), Arg::F32(delta)),
            Progression::Integers { start, delta, .. } if narrow => {
                ("int", Arg::I32(start as i32), Arg::I32(delta as i32))
            }
            Progression::Integers { start, delta, .. } => ("long", Arg::I64(start), Arg::I64(delta)),
        };
        let count = progression.count();
        let args = vec![emitter.write(0), Arg::U32(count as u32), start, delta];
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "range",
            options: vec![format!("-DTYPE={type_name}")],
            args,
            global: [count, 1, 1],
            local: GROUP,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Progression;
    use crate::tensor::{DType, HostTensor};
    use crate::testing::Case;

    fn case(bounds: [HostTensor; 3]) -> Case {
        let dtype = bounds[0].dtype();
        bounds
            .into_iter()
            .fold(Case::new("Range", 11), Case::constant)
            .output(dtype, 1)
    }

    fn longs(start: i64, limit: i64, delta: i64) -> Case {
        case([start, limit, delta].map(|bound| HostTensor::i64([], &[bound])))
    }

    fn floats(start: f32, limit: f32, delta: f32) -> Case {
        case([start, limit, delta].map(|bound| HostTensor::f32([], &[bound])))
    }

    #[test]
    fn the_limit_is_never_reached() {
        assert_eq!(longs(3, 9, 3).check(), [HostTensor::i64([2], &[3, 6])]);
        assert_eq!(longs(10, 4, -2).check(), [HostTensor::i64([3], &[10, 8, 6])]);
        assert_eq!(longs(0, 5, 2).check(), [HostTensor::i64([3], &[0, 2, 4])]);
        assert_eq!(longs(5, 0, 1).check(), [HostTensor::i64([0], &[])]);
        assert_eq!(
            floats(0.0, 1.0, 0.25).check(),
            [HostTensor::f32([4], &[0.0, 0.25, 0.5, 0.75])]
        );
        let ints = [0, 3, 1].map(|bound| HostTensor::i32([], &[bound]));
        assert_eq!(case(ints).check(), [HostTensor::i32([3], &[0, 1, 2])]);
    }

    #[test]
    fn long_ranges_are_made_on_the_device() {
        assert_eq!(
            longs(-5, 70_000 * 3, 3).check()[0].to_i64().unwrap()[70_000],
            209_995
        );
        assert_eq!(floats(0.5, 70_000.0, 0.5).check()[0].dtype(), DType::F32);
        let ints = [100_000, -1, -1].map(|bound| HostTensor::i32([], &[bound]));
        assert_eq!(case(ints).check()[0].to_i32().unwrap()[100_000], 0);
    }

    #[test]
    fn ranges_without_end_are_refused() {
        let refused = |case: Case| case.refusal().to_string().contains("a range from");
        assert!(refused(longs(0, 5, 0)));
        assert!(refused(longs(i64::MIN, i64::MAX, 1)));
        assert!(refused(floats(0.0, f32::INFINITY, 1.0)));
        assert!(refused(floats(0.0, 0.0, 0.0)));
        assert!(refused(floats(0.0, f32::NAN, 1.0)));
    }

    #[test]
    fn the_widest_integers_do_not_overflow() {
        let count = |start, limit, delta| Progression::of_integers(start, limit, delta).unwrap().count();
        assert_eq!(count(i64::MIN, i64::MAX, i64::MAX), 3);
        assert_eq!(count(i64::MAX, i64::MIN, i64::MIN), 2);
        let values = longs(i64::MIN, i64::MAX, i64::MAX)
            .check()
            .remove(0)
            .to_i64()
            .unwrap();
        assert_eq!(values, [i64::MIN, -1, i64::MAX - 1]);
    }
}
