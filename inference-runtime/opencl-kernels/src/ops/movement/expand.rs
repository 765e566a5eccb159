//! Expand: axes of extent 1 repeated, by ONNX's broadcast rule.

use super::arguments::{extent, only_attributes, operands, required, required_tensor};
use super::elements::{pick, strides};
use super::strided::StridedCopy;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{HostTensor, Shape, TensorType};

/// ONNX operator spec, Expand-8 and Expand-13.
#[derive(Debug)]
struct Expand;

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &[])?;
    Ok(Box::new(Expand))
}

/// Both shapes, aligned at the back, where 1 gives way.
fn broadcast(data: &[usize], wanted: &[usize]) -> Result<Shape, Reason> {
    let rank = data.len().max(wanted.len());
    let extent_of = |shape: &[usize], axis: usize| match axis.checked_sub(rank - shape.len()) {
        Some(axis) => shape[axis],
        None => 1,
    };
    (0..rank)
        .map(|axis| match (extent_of(data, axis), extent_of(wanted, axis)) {
            (1, extent) | (extent, 1) => Ok(extent),
            (a, b) if a == b => Ok(a),
            _ => Err(format!("{data:?} does not expand to {wanted:?}")),
        })
        .collect()
}

impl Operator for Expand {
    fn static_inputs(&self) -> &'static [usize] {
        &[1]
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let data = required(inputs, 0)?;
        let wanted = required(inputs, 1)?
            .ints("the shape to expand to")?
            .into_iter()
            .map(|value| extent(value, "an extent to expand to"))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(vec![TensorType::new(
            data.dtype(),
            broadcast(data.shape(), &wanted)?,
        )])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let ty = self.infer(&operands(inputs))?.remove(0);
        let data = required_tensor(inputs, 0)?;
        let added = ty.rank() - data.shape().len();
        Ok(vec![pick(ty, data, |to, from| {
            for (axis, from) in from.iter_mut().enumerate() {
                *from = if data.shape()[axis] == 1 {
                    0
                } else {
                    to[axis + added]
                };
            }
        })])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let (data, output) = (emitter.input_type(0), emitter.output_type(0));
        if data.elements() == output.elements() {
            emitter.alias(0, 0);
            return Ok(());
        }
        let mut from = vec![0; output.rank() - data.rank()];
        from.extend(
            data.shape.iter().zip(strides(&data.shape)).map(
                |(&extent, stride)| {
                    if extent == 1 { 0 } else { stride as isize }
                },
            ),
        );
        let size = data.dtype.size();
        StridedCopy::to_dense(&output.shape, &from, 0).emit(emitter, 0, 0, size)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::tensor::{DType, HostTensor};
    use crate::testing::Case;

    fn case(input: HostTensor, shape: &[i64]) -> Case {
        let rank = input.shape().len().max(shape.len());
        let dtype = input.dtype();
        let wanted = HostTensor::i64([shape.len()], shape);
        Case::new("Expand", 13)
            .input(input)
            .constant(wanted)
            .output(dtype, rank)
    }

    #[test]
    fn either_side_of_an_extent_may_be_one() {
        let column = HostTensor::f32([3, 1], &[1.0, 2.0, 3.0]);
        let expanded = case(column, &[2, 1, 2]).check();
        let once = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0];
        assert_eq!(expanded, [HostTensor::f32([2, 3, 2], &[once, once].concat())]);
    }

    #[test]
    fn every_rank_and_element_size_is_expanded() {
        for dtype in EVERY_SIZE {
            case(numbered(dtype, &[]), &[2, 3]).check();
            case(numbered(dtype, &[1]), &[]).check();
            case(numbered(dtype, &[1, 3]), &[0, 1]).check();
            case(numbered(dtype, &[4, 1, 1, 8]), &[3, 1]).check();
            case(numbered(dtype, &[2, 3]), &[2, 3]).check();
            case(
                numbered(dtype, &[1, 2, 1, 3, 1, 2, 1, 3]),
                &[2, 1, 3, 1, 2, 1, 3, 1],
            )
            .check();
        }
    }

    #[test]
    fn shapes_that_do_not_broadcast_are_refused() {
        let refusal = case(numbered(DType::F32, &[2, 3]), &[2]).refusal().to_string();
        assert!(refusal.contains("[2, 3] does not expand to [2]"), "{refusal}");
        let refusal = case(numbered(DType::F32, &[1]), &[-1]).refusal().to_string();
        assert!(refusal.contains("an extent to expand to is -1"), "{refusal}");
    }
}
