//! `ReverseSequence`: sequences of a batch backwards, each up to its own length.

use super::arguments::{axis, only_attributes, operands, required, required_tensor};
use super::divisor::Divisor;
use super::elements::pick;
use super::strided::{GROUP, element_option, index, widening};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "reverse_sequence.cl",
    text: include_str!("reverse_sequence.cl"),
};

/// ONNX operator spec, `ReverseSequence-10` and `-28`.
#[derive(Debug)]
struct ReverseSequence {
    /// 0 or 1; the batch axis is the other one.
    time_axis: usize,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &["batch_axis", "time_axis"])?;
    view.require_dtype(1, &[DType::I64])?;
    let rank = view.rank(0)?;
    let time_axis = axis(view.int("time_axis", 0), rank)?;
    let batch_axis = axis(view.int("batch_axis", 1), rank)?;
    if time_axis + batch_axis != 1 {
        return Err(format!("time axis {time_axis} and batch axis {batch_axis}"));
    }
    Ok(Box::new(ReverseSequence { time_axis }))
}

impl Operator for ReverseSequence {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let (data, lengths) = (required(inputs, 0)?, required(inputs, 1)?);
        if lengths.shape() != &[data.shape()[1 - self.time_axis]] {
            return Err(format!("sequence lengths {} for {}", lengths.ty, data.ty));
        }
        Ok(vec![data.ty.clone()])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let ty = self.infer(&operands(inputs))?.remove(0);
        let data = required_tensor(inputs, 0)?;
        let steps = data.shape()[self.time_axis];
        let lengths = required_tensor(inputs, 1)?
            .to_i64()
            .ok_or("sequence lengths are int64")?;
        let lengths = lengths
            .into_iter()
            .map(|length| usize::try_from(length).ok().filter(|l| *l <= steps).ok_or(length))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|length| format!("a sequence of length {length} in {steps} steps"))?;
        Ok(vec![pick(ty, data, |to, from| {
            from.copy_from_slice(to);
            let length = lengths[to[1 - self.time_axis]];
            let step = &mut from[self.time_axis];
            if *step < length {
                *step = length - 1 - *step;
            }
        })])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let data = emitter.input_type(0).clone();
        let size = data.dtype.size();
        let run: usize = data.shape[2..].iter().product();
        let wide = widening([run], size);
        let inner = run / wide;
        let count = index(data.elements())? as usize / wide;
        let mut args = vec![emitter.read(0), emitter.write(0), emitter.read(1)];
        args.extend(emitter.fault(data.shape[self.time_axis] + 1));
        args.push(Arg::U32(count as u32));
        for extent in [inner, data.shape[1]] {
            args.extend(Divisor::args(extent));
        }
        args.extend([
            Arg::I32(data.shape[self.time_axis] as i32),
            Arg::I32(i32::from(self.time_axis == 0)),
        ]);
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "reverse_sequence",
            options: vec![element_option(size * wide)],
            args,
            global: [count, 1, 1],
            local: GROUP,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::tensor::{DType, HostTensor};
    use crate::testing::Case;

    fn case(input: HostTensor, lengths: &[i64], time_axis: i64) -> Case {
        Case::new("ReverseSequence", 10)
            .attr("time_axis", Attribute::Int(time_axis))
            .attr("batch_axis", Attribute::Int(1 - time_axis))
            .input(input)
            .input(HostTensor::i64([lengths.len()], lengths))
    }

    #[test]
    fn the_specification_s_example_holds() {
        let rows = HostTensor::i32([4, 4], &(0..16).collect::<Vec<_>>());
        let reversed = case(rows, &[1, 2, 3, 4], 1).check();
        let expected = [0, 1, 2, 3, 5, 4, 6, 7, 10, 9, 8, 11, 15, 14, 13, 12];
        assert_eq!(reversed, [HostTensor::i32([4, 4], &expected)]);
    }

    #[test]
    fn every_element_size_and_both_axes_are_reversed() {
        for dtype in EVERY_SIZE {
            for inner in [&[][..], &[5], &[4, 4]] {
                case(numbered(dtype, &[&[3, 7], inner].concat()), &[7, 0, 4], 1).check();
                case(numbered(dtype, &[&[7, 3], inner].concat()), &[7, 0, 4], 0).check();
            }
        }
    }

    #[test]
    fn a_sequence_longer_than_time_fails_the_run() {
        let refusal = case(numbered(DType::F32, &[2, 3]), &[4, 1], 1)
            .refusal()
            .to_string();
        assert!(
            refusal.contains("index 4 is out of range for an axis of length 4"),
            "{refusal}"
        );
        let refusal = case(numbered(DType::F32, &[2, 3]), &[1], 1).refusal().to_string();
        assert!(
            refusal.contains("sequence lengths int64[1] for float32[2, 3]"),
            "{refusal}"
        );
    }
}
