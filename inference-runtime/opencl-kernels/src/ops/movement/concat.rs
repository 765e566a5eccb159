//! Concat: tensors one after another along an axis.

use super::arguments::{axis, only_attributes, operands, required};
use super::elements::{Elements, for_each_index, position};
use super::strided::{Axis, StridedCopy};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{HostTensor, TensorType};

/// ONNX operator spec, Concat-1 to Concat-13.
#[derive(Debug)]
struct Concat {
    axis: usize,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &["axis"])?;
    // Required since version 4; version 1 had a default.
    let given = match view.attributes().int("axis") {
        Some(axis) => axis,
        None if view.node().since_version < 4 => 1,
        None => return Err("attribute 'axis' is missing".to_owned()),
    };
    let axis = axis(given, view.rank(0)?)?;
    Ok(Box::new(Concat { axis }))
}

impl Operator for Concat {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let first = required(inputs, 0)?;
        let mut ty = first.ty.clone();
        for i in 1..inputs.len() {
            let next = required(inputs, i)?;
            let fits = next.dtype() == ty.dtype
                && next.shape().len() == ty.rank()
                && (0..ty.rank()).all(|a| a == self.axis || next.shape()[a] == ty.shape[a]);
            if !fits {
                return Err(format!(
                    "input {i} of type {} cannot follow {} along axis {}",
                    next.ty, first.ty, self.axis
                ));
            }
            ty.shape[self.axis] += next.shape()[self.axis];
        }
        Ok(vec![ty])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let ty = self.infer(&operands(inputs))?.remove(0);
        let shape = ty.shape.clone();
        let mut joined = Elements::zeroed(ty);
        let mut before = 0;
        for input in inputs.iter().flatten() {
            for_each_index(input.shape(), |from, index| {
                let mut to = index.to_vec();
                to[self.axis] += before;
                joined.set(position(&shape, &to), input, from);
            });
            before += input.shape()[self.axis];
        }
        Ok(vec![joined.finish()])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let ty = emitter.output_type(0).clone();
        let full: Vec<usize> = (0..emitter.inputs())
            .filter(|&i| emitter.input_type(i).elements() > 0)
            .collect();
        if let [only] = full[..] {
            emitter.alias(0, only);
            return Ok(());
        }
        let inner: usize = ty.shape[self.axis + 1..].iter().product();
        let row = (ty.shape[self.axis] * inner) as isize;
        let mut to = 0;
        for i in full {
            let shape = &emitter.input_type(i).shape;
            let block = shape[self.axis] * inner;
            let copy = StridedCopy {
                axes: vec![
                    Axis {
                        extent: shape[..self.axis].iter().product(),
                        from: block as isize,
                        to: row,
                    },
                    Axis {
                        extent: block,
                        from: 1,
                        to: 1,
                    },
                ],
                from: 0,
                to,
            };
            copy.emit(emitter, i, 0, ty.dtype.size())?;
            to += block as isize;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::tensor::{DType, HostTensor};
    use crate::testing::Case;

    fn case(axis: i64, inputs: impl IntoIterator<Item = HostTensor>) -> Case {
        let case = Case::new("Concat", 13).attr("axis", Attribute::Int(axis));
        inputs.into_iter().fold(case, Case::input)
    }

    #[test]
    fn tensors_follow_each_other_along_the_axis() {
        let upper = HostTensor::f32([1, 2], &[1.0, 2.0]);
        let lower = HostTensor::f32([2, 2], &[3.0, 4.0, 5.0, 6.0]);
        let rows = case(0, [upper, lower.clone()]).check().remove(0);
        assert_eq!(rows, HostTensor::f32([3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let column = HostTensor::f32([2, 1], &[8.0, 9.0]);
        let columns = case(-1, [lower, column]).check().remove(0);
        assert_eq!(columns, HostTensor::f32([2, 3], &[3.0, 4.0, 8.0, 5.0, 6.0, 9.0]));
    }

    #[test]
    fn every_axis_and_element_size_is_joined() {
        for dtype in EVERY_SIZE {
            for axis in 0..3 {
                let parts = [1, 3, 0, 4].map(|extent| {
                    let mut shape = [3, 5, 4];
                    shape[axis] = extent;
                    numbered(dtype, &shape)
                });
                case(axis as i64, parts).check();
            }
        }
    }

    #[test]
    fn one_tensor_alone_or_beside_empty_ones_stays_itself() {
        let only = numbered(DType::I64, &[2, 3]);
        assert_eq!(case(0, [only.clone()]).check(), std::slice::from_ref(&only));
        let empty = numbered(DType::I64, &[0, 3]);
        assert_eq!(
            case(0, [empty.clone(), only.clone(), empty.clone()]).check(),
            [only]
        );
        assert_eq!(case(0, [empty.clone(), empty.clone()]).check(), [empty]);
    }

    #[test]
    fn constants_and_one_tensor_twice_are_joined_too() {
        let tensor = numbered(DType::F32, &[2, 2]);
        let joined = case(1, [tensor.clone()]).constant(tensor).check().remove(0);
        assert_eq!(joined.shape(), [2, 4]);
    }

    #[test]
    fn tensors_that_do_not_fit_are_refused() {
        let refusal = case(0, [numbered(DType::F32, &[2, 3]), numbered(DType::F32, &[2, 4])]).refusal();
        let expected = "input 1 of type float32[2, 4] cannot follow float32[2, 3] along axis 0";
        assert!(refusal.to_string().contains(expected), "{refusal}");
    }
}
