//! Split: one tensor into several along an axis.

use super::arguments::{Integers, axis, extent, only_attributes, operands, required, required_tensor};
use super::elements::pick;
use super::strided::{Axis, StridedCopy};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{HostTensor, TensorType};

/// ONNX operator spec, Split-1 to Split-18.
#[derive(Debug)]
struct Split {
    axis: usize,
    lengths: Integers,
    /// For each part whether anybody reads it.
    wanted: Vec<bool>,
    /// Since version 18 the last of equal parts may be shorter.
    uneven: bool,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let version = view.node().since_version;
    let (known, lengths): (&[&str], _) = match version {
        ..=1 if view.has_input(1) => return Err("lengths as a float input (version 1)".to_owned()),
        ..=11 => (&["axis", "split"], Integers::attribute(view, "split")),
        ..=13 => (&["axis"], Integers::input(view, 1)),
        _ => (&["axis", "num_outputs"], Integers::input(view, 1)),
    };
    only_attributes(view, known)?;
    let outputs = view.node().outputs.len();
    if outputs == 0 {
        return Err("a split without outputs".to_owned());
    }
    if let Some(wanted) = view.attributes().int("num_outputs")
        && usize::try_from(wanted) != Ok(outputs)
    {
        return Err(format!("num_outputs is {wanted}, the node has {outputs} outputs"));
    }
    let axis = axis(view.int("axis", 0), view.rank(0)?)?;
    Ok(Box::new(Split {
        axis,
        lengths,
        wanted: (0..outputs).map(|i| view.wants_output(i)).collect(),
        uneven: version >= 18,
    }))
}

impl Split {
    /// The length of each part of an axis of this extent.
    fn parts(&self, whole: usize, inputs: &[Option<Operand<'_>>]) -> Result<Vec<usize>, Reason> {
        let Some(given) = self.lengths.get(inputs, "the split lengths")? else {
            return self.equal_parts(whole);
        };
        let parts = given
            .iter()
            .map(|&length| extent(length, "a split length"))
            .collect::<Result<Vec<_>, _>>()?;
        if parts.len() != self.wanted.len() || parts.iter().sum::<usize>() != whole {
            return Err(format!(
                "lengths {parts:?} for {} parts of an axis of {whole}",
                self.wanted.len()
            ));
        }
        Ok(parts)
    }

    /// As many equal parts as there are outputs; "if the tensor is not evenly splittable, the last chunk will be
    /// smaller".
    fn equal_parts(&self, whole: usize) -> Result<Vec<usize>, Reason> {
        let parts = self.wanted.len();
        let length = whole.div_ceil(parts);
        let last = whole
            .checked_sub(length * (parts - 1))
            .filter(|last| self.uneven || *last == length)
            .ok_or_else(|| format!("an axis of {whole} does not split into {parts} parts"))?;
        let mut lengths = vec![length; parts];
        lengths[parts - 1] = last;
        Ok(lengths)
    }
}

impl Operator for Split {
    fn static_inputs(&self) -> &'static [usize] {
        match self.lengths {
            Integers::Input(_) => &[1],
            Integers::Absent | Integers::Attribute(_) => &[],
        }
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let data = required(inputs, 0)?;
        let part_type = |length: usize| {
            let mut ty = data.ty.clone();
            ty.shape[self.axis] = length;
            ty
        };
        let parts = self.parts(data.shape()[self.axis], inputs)?;
        Ok(parts.into_iter().map(part_type).collect())
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let types = self.infer(&operands(inputs))?;
        let data = required_tensor(inputs, 0)?;
        let mut before = 0;
        let mut parts = Vec::with_capacity(types.len());
        for ty in types {
            let length = ty.shape[self.axis];
            parts.push(pick(ty, data, |to, from| {
                from.copy_from_slice(to);
                from[self.axis] += before;
            }));
            before += length;
        }
        Ok(parts)
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let data = emitter.input_type(0).clone();
        let outer: usize = data.shape[..self.axis].iter().product();
        let inner: usize = data.shape[self.axis + 1..].iter().product();
        let row = (data.shape[self.axis] * inner) as isize;
        let mut from = 0;
        for (i, wanted) in self.wanted.iter().enumerate() {
            let length = emitter.output_type(i).shape[self.axis];
            let block = length * inner;
            if *wanted && length == data.shape[self.axis] {
                emitter.alias(i, 0);
            } else if *wanted {
                let copy = StridedCopy {
                    axes: vec![
                        Axis {
                            extent: outer,
                            from: row,
                            to: block as isize,
                        },
                        Axis {
                            extent: block,
                            from: 1,
                            to: 1,
                        },
                    ],
                    from,
                    to: 0,
                };
                copy.emit(emitter, 0, i, data.dtype.size())?;
            }
            from += block as isize;
        }
        Ok(())
    }
}
