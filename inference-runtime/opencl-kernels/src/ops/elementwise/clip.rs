//! Clip: limits every element to an interval.

use super::attributes::only;
use super::map::Map;
use super::numbers::{INTEGERS, float_tensor, floats, integer_tensor, integers};
use super::unary::cl_name;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Emitter, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "clip.cl",
    text: concat!(include_str!("clip.cl"), include_str!("broadcast.cl")),
};

/// Clip-6 (bounds are attributes) and Clip-11 and later (bounds are optional inputs, known or not).
#[derive(Debug, Clone, PartialEq)]
struct Clip {
    dtype: DType,
    /// The bounds that stand in for absent inputs.
    bounds: [HostTensor; 2],
}

/// Lowers Clip.
pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let dtype = node.dtype(0)?;
    if dtype != DType::F32 && !INTEGERS.contains(&dtype) {
        return Err(format!("input 0 is {dtype}"));
    }
    let mut bounds = widest(dtype);
    if node.node().since_version < 11 {
        only(node, &["min", "max"])?;
        node.require_dtype(0, &[DType::F32])?;
        for (bound, name) in bounds.iter_mut().zip(["min", "max"]) {
            if let Some(value) = node.attributes().float(name) {
                *bound = HostTensor::f32([], &[value]);
            }
        }
    } else {
        only(node, &[])?;
        for bound in (1..=2).filter(|&bound| node.has_input(bound)) {
            node.require_dtype(bound, &[dtype])?;
        }
    }
    Ok(Box::new(Clip { dtype, bounds }))
}

/// The bounds that ONNX gives by default: the type's lowest and highest finite numbers, so that infinities are clipped.
fn widest(dtype: DType) -> [HostTensor; 2] {
    if dtype.is_float() {
        return [f32::MIN, f32::MAX].map(|bound| HostTensor::f32([], &[bound]));
    }
    let bits = 8 * dtype.size() as u32;
    let (min, max) = if super::numbers::is_signed(dtype) {
        (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1)
    } else {
        (0, (1_i128 << bits) - 1)
    };
    [min, max].map(|bound| integer_tensor(dtype, [], [bound]))
}

/// Refuses a bound that is not one element.
fn check_bound(ty: &TensorType, what: &str) -> Result<(), Reason> {
    if ty.elements() == 1 {
        Ok(())
    } else {
        Err(format!("{what} must be a scalar, is {ty}"))
    }
}

impl Operator for Clip {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let [Some(x), bounds @ ..] = inputs else {
            return Err("input 0 is missing".to_owned());
        };
        for (bound, what) in bounds.iter().zip(["min", "max"]) {
            if let Some(bound) = bound {
                check_bound(bound.ty, what)?;
            }
        }
        Ok(vec![x.ty.clone()])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let bound = |i: usize| inputs.get(i).copied().flatten().unwrap_or(&self.bounds[i - 1]);
        let Some(Some(x)) = inputs.first() else {
            return Err("input 0 is missing".to_owned());
        };
        check_bound(bound(1).ty(), "min")?;
        check_bound(bound(2).ty(), "max")?;
        Ok(vec![if self.dtype.is_float() {
            let (min, max) = (floats(bound(1))?[0], floats(bound(2))?[0]);
            float_tensor(x.shape(), floats(x)?.into_iter().map(|x| clip(x, min, max)))
        } else {
            let (min, max) = (integers(bound(1))?[0], integers(bound(2))?[0]);
            integer_tensor(
                self.dtype,
                x.shape(),
                integers(x)?.into_iter().map(|x| clip(x, min, max)),
            )
        }])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let shape = emitter.output_type(0).shape.clone();
        let x = emitter.read(0);
        let [min, max] = [(1, "min"), (2, "max")].map(|(i, name)| {
            if emitter.input(i).is_some() {
                emitter.read(i)
            } else {
                emitter.constant(name, || self.bounds[i - 1].clone())
            }
        });
        let output = emitter.write(0);
        let map = Map {
            source: SOURCE,
            options: vec![format!("-DFIRST={}", cl_name(self.dtype)?)],
            parameters: [0.0; 2],
        };
        map.emit(emitter, (output, &shape), [(x, &*shape), (min, &[]), (max, &[])])
    }
}

fn clip<T: PartialOrd>(x: T, min: T, max: T) -> T {
    let raised = if x < min { min } else { x };
    if raised > max { max } else { raised }
}

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::ops::elementwise::numbers::{INTEGERS, integer_tensor, integers};
    use crate::tensor::HostTensor;
    use crate::testing::{Case, tensor};

    const X: [f32; 6] = [f32::NAN, -5.0, 0.5, 5.0, f32::INFINITY, f32::NEG_INFINITY];

    fn x() -> HostTensor {
        HostTensor::f32([6], &X)
    }

    fn scalar(value: f32) -> HostTensor {
        HostTensor::f32([], &[value])
    }

    fn run(case: &Case, expected: [f32; 5]) {
        let y = case.check()[0].to_f32().unwrap();
        assert!(y[0].is_nan(), "NaN stays");
        assert_eq!(y[1..], expected);
    }

    #[test]
    fn bounds_are_known_or_come_with_the_request() {
        let expected = [0.0, 0.5, 1.0, 1.0, 0.0];
        let clip = || Case::new("Clip", 13).input(x());
        run(&clip().constant(scalar(0.0)).constant(scalar(1.0)), expected);
        run(&clip().input(scalar(0.0)).input(scalar(1.0)), expected);
        run(
            &clip().input(HostTensor::f32([1], &[0.0])).constant(scalar(1.0)),
            expected,
        );
    }

    #[test]
    fn an_absent_bound_is_the_largest_finite_number() {
        let clip = || Case::new("Clip", 11).input(x());
        run(&clip(), [-5.0, 0.5, 5.0, f32::MAX, f32::MIN]);
        run(&clip().constant(scalar(0.0)), [0.0, 0.5, 5.0, f32::MAX, 0.0]);
        run(
            &clip().absent().input(scalar(1.0)),
            [-5.0, 0.5, 1.0, 1.0, f32::MIN],
        );
    }

    #[test]
    fn attributes_bound_before_version_11() {
        let case = Case::new("Clip", 6)
            .attr("min", Attribute::Float(0.0))
            .attr("max", Attribute::Float(6.0));
        run(&case.input(x()), [0.0, 0.5, 5.0, 6.0, 0.0]);
    }

    #[test]
    fn the_upper_bound_wins_and_a_nan_bounds_nothing() {
        run(
            &Case::new("Clip", 13)
                .input(x())
                .input(scalar(1.0))
                .input(scalar(-1.0)),
            [-1.0; 5],
        );
        let open = Case::new("Clip", 13)
            .input(x())
            .input(scalar(f32::NAN))
            .input(scalar(1.5));
        run(&open, [-5.0, 0.5, 1.5, 1.5, f32::NEG_INFINITY]);
    }

    #[test]
    fn integers_of_every_type() {
        for dtype in INTEGERS {
            let x = integer_tensor(dtype, [5], [0, 3, 7, 100, -1]);
            let bound = |value| integer_tensor(dtype, [], [value]);
            let y = Case::new("Clip", 12)
                .input(x.clone())
                .constant(bound(2))
                .constant(bound(50))
                .check();
            let last = if crate::ops::elementwise::numbers::is_signed(dtype) {
                2
            } else {
                50
            };
            assert_eq!(integers(&y[0]).unwrap(), [2, 3, 7, 50, last], "{dtype}");
            assert_eq!(Case::new("Clip", 12).input(x.clone()).check(), [x]);
        }
    }

    #[test]
    fn a_bound_of_many_elements_is_refused() {
        let case = Case::new("Clip", 13).input(x()).input(tensor(&[6], 1));
        assert!(case.refusal().to_string().contains("min must be a scalar"));
    }
}
