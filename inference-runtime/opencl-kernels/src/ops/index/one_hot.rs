//! `OneHot`: indices as vectors that are on at one place and off elsewhere.

use super::position::{checked, index_option, integers, require_indices};
use crate::ops::movement::arguments::{axis, only_attributes, operands, required, required_tensor};
use crate::ops::movement::divisor::Divisor;
use crate::ops::movement::elements::{Elements, for_each_index, position};
use crate::ops::movement::strided::{GROUP, element_option, index};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "one_hot.cl",
    text: include_str!("one_hot.cl"),
};

/// ONNX operator spec, `OneHot-9` to `-28`.
#[derive(Debug)]
struct OneHot {
    /// The new axis of the output.
    axis: usize,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &["axis"])?;
    require_indices(view, 0)?;
    view.require_dtype(1, &[DType::F32, DType::I32, DType::I64])?;
    let axis = axis(view.int("axis", -1), view.rank(0)? + 1)?;
    Ok(Box::new(OneHot { axis }))
}

/// The extent of the new axis; a float is cast to an integer first.
fn depth(inputs: &[Option<Operand<'_>>]) -> Result<usize, Reason> {
    let operand = required(inputs, 1)?;
    let depths = match operand.known.and_then(HostTensor::to_f32) {
        Some(floats) => floats.into_iter().map(|depth| depth as i64).collect(),
        None => operand.ints("the depth")?,
    };
    match depths[..] {
        [depth] if depth > 0 => Ok(depth as usize),
        _ => Err(format!("a depth of {depths:?}")),
    }
}

impl Operator for OneHot {
    fn static_inputs(&self) -> &'static [usize] {
        &[1]
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let (indices, values) = (required(inputs, 0)?, required(inputs, 2)?);
        if values.shape() != &[2] {
            return Err(format!("an off and an on value of type {}", values.ty));
        }
        let mut shape = indices.shape().clone();
        shape.insert(self.axis, depth(inputs)?);
        Ok(vec![TensorType::new(values.dtype(), shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let ty = self.infer(&operands(inputs))?.remove(0);
        let shape = ty.shape.clone();
        let depth = shape[self.axis];
        let (indices, values) = (required_tensor(inputs, 0)?, required_tensor(inputs, 2)?);
        let hot = integers(indices)?;
        let mut vectors = Elements::zeroed(ty);
        for_each_index(&shape, |to, index| {
            let mut place = index.to_vec();
            let at = place.remove(self.axis);
            let is_hot = checked(hot[position(indices.shape(), &place)], depth) == Ok(at);
            vectors.set(to, values, usize::from(is_hot));
        });
        Ok(vec![vectors.finish()])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let output = emitter.output_type(0).clone();
        let count = index(output.elements())?;
        let inner: usize = output.shape[self.axis + 1..].iter().product();
        let mut args = vec![emitter.read(0), emitter.read(2), emitter.write(0)];
        args.push(Arg::U32(count as u32));
        args.extend(Divisor::args(inner));
        args.extend(Divisor::args(output.shape[self.axis]));
        let indices = emitter.input_type(0).dtype;
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "one_hot",
            options: vec![element_option(output.dtype.size()), index_option(indices)],
            args,
            global: [count as usize, 1, 1],
            local: GROUP,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::tensor::HostTensor;
    use crate::testing::Case;

    fn case(indices: HostTensor, depth: HostTensor, values: HostTensor, axis: i64) -> Case {
        let (dtype, rank) = (values.dtype(), indices.shape().len() + 1);
        let case = Case::new("OneHot", 11).attr("axis", Attribute::Int(axis));
        case.input(indices)
            .constant(depth)
            .input(values)
            .output(dtype, rank)
    }

    #[test]
    fn indices_are_hot_where_they_point_and_nowhere_if_that_is_outside() {
        let indices = HostTensor::i64([5], &[0, 1, -1, 5, -6]);
        let hot = case(
            indices,
            HostTensor::i64([], &[3]),
            HostTensor::f32([2], &[2.0, 7.0]),
            -1,
        )
        .check();
        let expected = [
            7.0, 2.0, 2.0, 2.0, 7.0, 2.0, 2.0, 2.0, 7.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0,
        ];
        assert_eq!(hot, [HostTensor::f32([5, 3], &expected)]);
    }

    #[test]
    fn every_axis_element_and_index_type_is_made_hot() {
        for dtype in EVERY_SIZE {
            for axis in -3..3 {
                let indices = HostTensor::i32([2, 3], &[0, 1, -2, 3, -4, 9]);
                case(indices, HostTensor::f32([1], &[4.0]), numbered(dtype, &[2]), axis).check();
            }
            case(
                HostTensor::i64([], &[1]),
                HostTensor::i32([], &[2]),
                numbered(dtype, &[2]),
                0,
            )
            .check();
            let none = HostTensor::i64([0], &[]);
            case(none, HostTensor::i64([1], &[2]), numbered(dtype, &[2]), 0).check();
        }
    }

    #[test]
    fn depths_without_room_are_refused() {
        let refusal = |depth: HostTensor| {
            let case = case(
                HostTensor::i64([1], &[0]),
                depth,
                HostTensor::f32([2], &[0.0, 1.0]),
                -1,
            );
            case.refusal().to_string()
        };
        assert!(refusal(HostTensor::i64([], &[0])).contains("a depth of [0]"));
        assert!(refusal(HostTensor::i64([2], &[1, 2])).contains("a depth of [1, 2]"));
        assert!(refusal(HostTensor::f32([], &[-1.0])).contains("a depth of [-1]"));
    }
}
