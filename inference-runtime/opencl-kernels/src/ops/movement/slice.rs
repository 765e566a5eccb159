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
