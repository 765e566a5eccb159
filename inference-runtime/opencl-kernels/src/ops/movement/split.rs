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
    if version == 1 && view.has_input(1) {
        return Err("lengths as a float input (version 1)".to_owned());
    }
    let (known, lengths): (&[&str], _) = match version {
        ..=11 => (&["axis", "split"], Integers::attribute(view, "split")),
        12..=13 => (&["axis"], Integers::input(view, 1)),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::ir::Attribute;
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::tensor::{DType, HostTensor};
    use crate::testing::Case;

    fn with_outputs(mut case: Case, input: &HostTensor, outputs: usize) -> Case {
        for _ in 0..outputs {
            case = case.output(input.dtype(), input.shape().len());
        }
        case
    }

    fn by_lengths(input: &HostTensor, axis: i64, lengths: &[i64]) -> Case {
        let case = Case::new("Split", 13)
            .attr("axis", Attribute::Int(axis))
            .input(input.clone())
            .constant(HostTensor::i64([lengths.len()], lengths));
        with_outputs(case, input, lengths.len())
    }

    #[test]
    fn lengths_come_as_attribute_or_input() {
        let input = HostTensor::f32([5], &[1.0, 2.0, 3.0, 4.0, 5.0]);
        let expected = [
            HostTensor::f32([2], &[1.0, 2.0]),
            HostTensor::f32([3], &[3.0, 4.0, 5.0]),
        ];
        assert_eq!(by_lengths(&input, 0, &[2, 3]).check(), expected);
        let attribute = Case::new("Split", 11).attr("split", Attribute::Ints(vec![2, 3]));
        assert_eq!(
            with_outputs(attribute.input(input.clone()), &input, 2).check(),
            expected
        );
    }

    #[test]
    fn equal_parts_follow_from_the_outputs_and_the_last_may_be_shorter_since_18() {
        let input = numbered(DType::I32, &[7, 2]);
        let uneven = |count: usize| {
            let case = Case::new("Split", 18).attr("num_outputs", Attribute::Int(count as i64));
            with_outputs(case.input(input.clone()), &input, count)
        };
        let lengths: Vec<usize> = uneven(3).check().iter().map(|part| part.shape()[0]).collect();
        assert_eq!(lengths, [3, 3, 1]);
        let old = |count| with_outputs(Case::new("Split", 13).input(input.clone()), &input, count);
        assert_eq!(
            old(7).check()[6],
            HostTensor::i32([1, 2], &input.to_i32().unwrap()[12..])
        );
        let refusal = old(3).refusal().to_string();
        assert!(
            refusal.contains("an axis of 7 does not split into 3 parts"),
            "{refusal}"
        );
        let refusal = uneven(6).refusal().to_string();
        assert!(
            refusal.contains("an axis of 7 does not split into 6 parts"),
            "{refusal}"
        );
    }

    #[test]
    fn every_axis_and_element_size_is_split_and_parts_may_be_empty() {
        for dtype in EVERY_SIZE {
            for axis in 0..3 {
                let mut shape = [3, 5, 4];
                shape[axis] = 8;
                by_lengths(&numbered(dtype, &shape), axis as i64 - 3, &[1, 3, 0, 4]).check();
            }
        }
        by_lengths(&numbered(DType::F32, &[4, 3]), 0, &[0, 4]).check();
    }

    #[test]
    fn parts_that_nobody_reads_are_left_out() {
        let input = numbered(DType::F32, &[2, 6]);
        let case = Case::new("Split", 13)
            .attr("axis", Attribute::Int(1))
            .input(input.clone())
            .constant(HostTensor::i64([3], &[1, 2, 3]));
        let parts = case
            .output(DType::F32, 2)
            .no_output()
            .output(DType::F32, 2)
            .check();
        assert_eq!(parts[1].shape(), [2, 3]);
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        let refusal = by_lengths(&numbered(DType::F32, &[4]), 0, &[1, 2])
            .refusal()
            .to_string();
        assert!(
            refusal.contains("lengths [1, 2] for 2 parts of an axis of 4"),
            "{refusal}"
        );
        let refusal = by_lengths(&numbered(DType::F32, &[4]), 0, &[5, -1])
            .refusal()
            .to_string();
        assert!(refusal.contains("a split length is -1"), "{refusal}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_is_split_can_be_joined_again(
            lengths in prop::collection::vec(0..5_i64, 1..5),
            others in prop::collection::vec(1..5_usize, 0..3),
            at in 0..4_usize,
        ) {
            let axis = at.min(others.len());
            let mut shape = others;
            shape.insert(axis, lengths.iter().sum::<i64>() as usize);
            let input = numbered(DType::I16, &shape);
            let parts = by_lengths(&input, axis as i64, &lengths).check();
            let joined = Case::new("Concat", 13).attr("axis", Attribute::Int(axis as i64));
            let joined = parts.into_iter().fold(joined, Case::input).check().remove(0);
            prop_assert_eq!(joined, input);
        }
    }
}
