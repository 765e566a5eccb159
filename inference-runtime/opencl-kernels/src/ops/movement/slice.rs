//! Slice: a regular selection along each axis, possibly backwards.

use super::arguments::{Integers, distinct_axes, only_attributes, operands, required, required_tensor};
use super::elements::{pick, strides};
use super::strided::StridedCopy;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{HostTensor, TensorType};

/// ONNX operator spec, Slice-1 (attributes) and Slice-10 to Slice-13 (inputs).
#[derive(Debug)]
struct Slice {
    starts: Integers,
    ends: Integers,
    axes: Integers,
    steps: Integers,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let slice = if view.node().since_version < 10 {
        only_attributes(view, &["axes", "ends", "starts"])?;
        Slice {
            starts: Integers::attribute(view, "starts"),
            ends: Integers::attribute(view, "ends"),
            axes: Integers::attribute(view, "axes"),
            steps: Integers::Absent,
        }
    } else {
        only_attributes(view, &[])?;
        Slice {
            starts: Integers::input(view, 1),
            ends: Integers::input(view, 2),
            axes: Integers::input(view, 3),
            steps: Integers::input(view, 4),
        }
    };
    if slice.starts == Integers::Absent || slice.ends == Integers::Absent {
        return Err("'starts' or 'ends' is missing".to_owned());
    }
    Ok(Box::new(slice))
}

/// The selection along one axis: `length` indices from `start` on, `step` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Selection {
    start: usize,
    step: isize,
    length: usize,
}

impl Selection {
    fn all(extent: usize) -> Self {
        Self {
            start: 0,
            step: 1,
            length: extent,
        }
    }

    /// Negative bounds count from the back, then bounds are clamped to what the direction can reach.
    fn new(extent: usize, start: i64, end: i64, step: i64) -> Result<Self, Reason> {
        if step == 0 {
            return Err("a slice with step 0".to_owned());
        }
        if extent == 0 {
            return Ok(Self::all(0));
        }
        let extent = extent as i64;
        let from_front = |bound: i64| {
            if bound < 0 {
                bound.saturating_add(extent)
            } else {
                bound
            }
        };
        let (start, end) = if step > 0 {
            (
                from_front(start).clamp(0, extent),
                from_front(end).clamp(0, extent),
            )
        } else {
            (
                from_front(start).clamp(0, extent - 1),
                from_front(end).clamp(-1, extent - 1),
            )
        };
        let distance = if step > 0 { end - start } else { start - end };
        let length = u64::try_from(distance).map_or(0, |d| d.div_ceil(step.unsigned_abs())) as usize;
        Ok(Self {
            start: start as usize,
            // A step over everything selects one index and would overflow a stride.
            step: if length > 1 { step as isize } else { 1 },
            length,
        })
    }

    fn at(self, i: usize) -> usize {
        (self.start as isize + self.step * i as isize) as usize
    }
}

impl Slice {
    fn selections(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<Selection>, Reason> {
        let shape = &required(inputs, 0)?.ty.shape;
        let list = |what: &Integers, name| what.get(inputs, name);
        let starts = list(&self.starts, "starts")?.unwrap_or_default();
        let ends = list(&self.ends, "ends")?.unwrap_or_default();
        let axes = list(&self.axes, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect::<Vec<_>>());
        let steps = list(&self.steps, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err(format!(
                "{} starts, {} ends, {} axes and {} steps",
                starts.len(),
                ends.len(),
                axes.len(),
                steps.len()
            ));
        }
        let mut selections: Vec<_> = shape.iter().map(|&extent| Selection::all(extent)).collect();
        for (i, axis) in distinct_axes(&axes, shape.len())?.into_iter().enumerate() {
            selections[axis] = Selection::new(shape[axis], starts[i], ends[i], steps[i])?;
        }
        Ok(selections)
    }
}

impl Operator for Slice {
    fn static_inputs(&self) -> &'static [usize] {
        match self.starts {
            Integers::Input(_) => &[1, 2, 3, 4],
            Integers::Absent | Integers::Attribute(_) => &[],
        }
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let selections = self.selections(inputs)?;
        let shape: Vec<usize> = selections.iter().map(|s| s.length).collect();
        Ok(vec![TensorType::new(required(inputs, 0)?.dtype(), shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let operands = operands(inputs);
        let selections = self.selections(&operands)?;
        let ty = self.infer(&operands)?.remove(0);
        let data = required_tensor(inputs, 0)?;
        Ok(vec![pick(ty, data, |to, from| {
            for ((from, to), selection) in from.iter_mut().zip(to).zip(&selections) {
                *from = selection.at(*to);
            }
        })])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let inputs: Vec<_> = (0..emitter.inputs()).map(|i| emitter.input(i)).collect();
        let selections = self.selections(&inputs)?;
        let data = emitter.input_type(0);
        let size = data.dtype.size();
        if data.shape == emitter.output_type(0).shape && selections.iter().all(|s| s.step == 1) {
            emitter.alias(0, 0);
            return Ok(());
        }
        let strides = strides(&data.shape);
        let from: usize = selections
            .iter()
            .zip(&strides)
            .map(|(s, stride)| s.start * stride)
            .sum();
        let steps: Vec<isize> = selections
            .iter()
            .zip(&strides)
            .map(|(s, stride)| s.step * *stride as isize)
            .collect();
        StridedCopy::to_dense(&emitter.output_type(0).shape, &steps, from as isize).emit(emitter, 0, 0, size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Selection;
    use crate::ir::Attribute;
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::tensor::HostTensor;
    use crate::testing::Case;

    fn ints(values: &[i64]) -> HostTensor {
        HostTensor::i64([values.len()], values)
    }

    fn case(input: HostTensor, starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]) -> Case {
        Case::new("Slice", 13)
            .input(input)
            .constant(ints(starts))
            .constant(ints(ends))
            .constant(ints(axes))
            .constant(ints(steps))
    }

    fn matrix() -> HostTensor {
        HostTensor::f32([2, 4], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    }

    #[test]
    fn the_specification_s_examples_hold() {
        let sliced = case(matrix(), &[1, 0], &[2, 3], &[0, 1], &[1, 2]).check();
        assert_eq!(sliced, [HostTensor::f32([1, 2], &[5.0, 7.0])]);
        let open = Case::new("Slice", 10)
            .input(matrix())
            .constant(ints(&[0, 1]))
            .constant(ints(&[-1, 1000]))
            .check();
        assert_eq!(open, [HostTensor::f32([1, 3], &[2.0, 3.0, 4.0])]);
    }

    #[test]
    fn version_1_takes_attributes() {
        let sliced = Case::new("Slice", 1)
            .attr("starts", Attribute::Ints(vec![1]))
            .attr("ends", Attribute::Ints(vec![3]))
            .attr("axes", Attribute::Ints(vec![1]))
            .input(matrix())
            .check();
        assert_eq!(sliced, [HostTensor::f32([2, 2], &[2.0, 3.0, 6.0, 7.0])]);
    }

    #[test]
    fn backwards_reaches_the_first_element() {
        let sliced = case(matrix(), &[-1], &[i64::MIN], &[1], &[-2]).check();
        assert_eq!(sliced, [HostTensor::f32([2, 2], &[4.0, 2.0, 8.0, 6.0])]);
        let far = case(matrix(), &[1000], &[-1000], &[0], &[-1]).check();
        assert_eq!(
            far,
            [HostTensor::f32([2, 4], &[5.0, 6.0, 7.0, 8.0, 1.0, 2.0, 3.0, 4.0])]
        );
    }

    #[test]
    fn every_rank_and_element_size_is_sliced() {
        for dtype in EVERY_SIZE {
            case(numbered(dtype, &[9]), &[1], &[9], &[0], &[1]).check();
            case(numbered(dtype, &[7, 9]), &[5, 1], &[0, 8], &[0, -1], &[-2, 3]).check();
            case(numbered(dtype, &[3, 8, 16]), &[4], &[8], &[1], &[1]).check();
            case(numbered(dtype, &[4, 0, 3]), &[1], &[3], &[0], &[1]).check();
            case(numbered(dtype, &[4, 3]), &[3], &[1], &[0], &[1]).check();
            let eight = numbered(dtype, &[2, 3, 2, 3, 2, 3, 2, 3]);
            case(
                eight,
                &[1, 2, 1, 2],
                &[9, -9, 9, -9],
                &[0, 1, 4, 7],
                &[1, -2, 1, -1],
            )
            .check();
        }
    }

    #[test]
    fn what_takes_everything_is_the_tensor_itself() {
        let all = case(matrix(), &[0], &[i64::MAX], &[1], &[1]).check();
        assert_eq!(all, [matrix()]);
    }

    #[test]
    fn nonsense_is_refused() {
        let refusal = |case: Case| case.refusal().to_string();
        assert!(refusal(case(matrix(), &[0], &[1], &[0], &[0])).contains("a slice with step 0"));
        assert!(refusal(case(matrix(), &[0, 0], &[1, 1], &[0, -2], &[1, 1])).contains("given twice"));
        assert!(refusal(case(matrix(), &[0], &[1, 2], &[0], &[1])).contains("1 starts, 2 ends"));
        let runtime = Case::new("Slice", 13)
            .input(matrix())
            .input(ints(&[0]))
            .input(ints(&[1]));
        assert!(refusal(runtime).contains("depends on the request's data"));
    }

    #[test]
    fn extreme_bounds_and_steps_do_not_overflow() {
        let one = Selection {
            start: 0,
            step: 1,
            length: 1,
        };
        assert_eq!(Selection::new(5, i64::MIN, i64::MAX, i64::MAX), Ok(one));
        let last = Selection { start: 4, ..one };
        assert_eq!(Selection::new(5, i64::MAX, i64::MIN, i64::MIN), Ok(last));
    }

    proptest! {
        #[test]
        fn selections_are_what_walking_finds(
            extent in 1..9_i64,
            start in -12..12_i64,
            end in -12..12_i64,
            step in prop::sample::select(vec![-5_i64, -3, -2, -1, 1, 2, 3, 5]),
        ) {
            let bound = |at: i64| if at < 0 { at + extent } else { at };
            let ended = |at: i64| if step > 0 {
                at >= bound(end).min(extent)
            } else {
                at <= bound(end).max(-1)
            };
            let mut at = bound(start).max(0);
            if step < 0 {
                at = at.min(extent - 1);
            }
            let mut walked = Vec::new();
            while !ended(at) {
                walked.push(at as usize);
                at += step;
            }
            let selection = Selection::new(extent as usize, start, end, step).unwrap();
            let selected: Vec<usize> = (0..selection.length).map(|i| selection.at(i)).collect();
            prop_assert_eq!(selected, walked);
        }
    }
}
