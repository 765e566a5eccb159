//! Transpose: the axes in another order.

use super::arguments::{distinct_axes, only_attributes, operands, required, required_tensor};
use super::elements::{pick, strides};
use super::strided::StridedCopy;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{HostTensor, TensorType};

/// ONNX operator spec, Transpose-1 to Transpose-25.
#[derive(Debug)]
struct Transpose {
    /// For each output axis its input axis.
    order: Vec<usize>,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &["perm"])?;
    let rank = view.rank(0)?;
    let order = match view.attributes().ints("perm") {
        None => (0..rank).rev().collect(),
        Some(order) if order.len() != rank => {
            return Err(format!("perm {order:?} for a tensor with {rank} axes"));
        }
        Some(order) => distinct_axes(order, rank)?,
    };
    Ok(Box::new(Transpose { order }))
}

impl Operator for Transpose {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let data = required(inputs, 0)?;
        if data.shape().len() != self.order.len() {
            return Err(format!("perm {:?} for {}", self.order, data.ty));
        }
        let shape: Vec<usize> = self.order.iter().map(|&a| data.shape()[a]).collect();
        Ok(vec![TensorType::new(data.dtype(), shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let ty = self.infer(&operands(inputs))?.remove(0);
        let data = required_tensor(inputs, 0)?;
        Ok(vec![pick(ty, data, |to, from| {
            for (&axis, &i) in self.order.iter().zip(to) {
                from[axis] = i;
            }
        })])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let data = emitter.input_type(0);
        let strides = strides(&data.shape);
        // Moving axes of extent 1 moves no data.
        let moved = self.order.iter().filter(|&&a| data.shape[a] != 1);
        if moved.is_sorted() {
            emitter.alias(0, 0);
            return Ok(());
        }
        let from: Vec<isize> = self.order.iter().map(|&a| strides[a] as isize).collect();
        let size = data.dtype.size();
        StridedCopy::to_dense(&emitter.output_type(0).shape, &from, 0).emit(emitter, 0, 0, size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::ir::Attribute;
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::runtime::DeviceKind;
    use crate::tensor::{DType, HostTensor};
    use crate::testing::Case;

    fn transposed(input: HostTensor, order: &[i64]) -> HostTensor {
        Case::new("Transpose", 13)
            .attr("perm", Attribute::Ints(order.to_vec()))
            .input(input)
            .check()
            .remove(0)
    }

    #[test]
    fn without_an_order_axes_are_reversed() {
        let matrix = HostTensor::f32([2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let output = Case::new("Transpose", 1).input(matrix).check().remove(0);
        assert_eq!(output, HostTensor::f32([3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
    }

    #[test]
    fn the_middle_axes_of_attention_heads_swap() {
        let heads = HostTensor::i32([1, 2, 2, 3], &(0..12).collect::<Vec<_>>());
        let expected = [0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11];
        assert_eq!(
            transposed(heads, &[0, 2, 1, 3]),
            HostTensor::i32([1, 2, 2, 3], &expected)
        );
    }

    #[test]
    fn every_rank_and_element_size_is_moved() {
        let shapes: [(&[usize], &[i64]); 9] = [
            (&[], &[]),
            (&[5], &[0]),
            (&[3, 5], &[1, 0]),
            (&[33, 17], &[1, 0]),
            (&[2, 1, 3], &[2, 1, 0]),
            (&[2, 3, 4, 8], &[0, 2, 1, 3]),
            (&[3, 0, 2], &[2, 0, 1]),
            (&[2, 3, 2, 1, 2, 3, 2, 2], &[7, 0, 6, 1, 5, 2, 4, 3]),
            (&[2, 2, 2, 2, 2, 2, 2, 2], &[1, 0, 3, 2, 5, 4, 7, 6]),
        ];
        for dtype in EVERY_SIZE {
            for (shape, order) in shapes {
                transposed(numbered(dtype, shape), order);
            }
        }
    }

    #[test]
    fn tiles_of_gpus_cover_odd_matrices_and_batches() {
        let shapes: [(&[usize], &[i64]); 6] = [
            (&[16, 16], &[1, 0]),
            (&[33, 17], &[1, 0]),
            (&[8, 100], &[1, 0]),
            (&[3, 40, 9], &[0, 2, 1]),
            (&[2, 20, 3, 18], &[0, 3, 2, 1]),
            (&[2, 9, 2, 8, 2, 2, 2, 10], &[7, 0, 2, 1, 5, 4, 6, 3]),
        ];
        for dtype in EVERY_SIZE {
            for (shape, order) in shapes {
                let case = Case::new("Transpose", 13).attr("perm", Attribute::Ints(order.to_vec()));
                case.input(numbered(dtype, shape)).check_as(DeviceKind::Gpu);
            }
        }
    }

    #[test]
    fn an_order_that_is_no_permutation_is_refused() {
        let refusal = |order: Vec<i64>| {
            let case = Case::new("Transpose", 13).attr("perm", Attribute::Ints(order));
            case.input(numbered(DType::F32, &[2, 3])).refusal().to_string()
        };
        assert!(
            refusal(vec![0, 0]).contains("axis 0 is given twice"),
            "{}",
            refusal(vec![0, 0])
        );
        assert!(refusal(vec![0]).contains("perm [0] for a tensor with 2 axes"));
        assert!(refusal(vec![0, 2]).contains("axis 2 of a tensor with 2 axes"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn transposing_there_and_back_changes_nothing(
            (shape, order) in prop::collection::vec(1..7_usize, 1..5).prop_flat_map(|shape| {
                let order = Just((0..shape.len() as i64).collect::<Vec<_>>()).prop_shuffle();
                (Just(shape), order)
            }),
        ) {
            let mut back = vec![0; order.len()];
            for (to, &from) in order.iter().enumerate() {
                back[from as usize] = to as i64;
            }
            let input = numbered(DType::U16, &shape);
            prop_assert_eq!(transposed(transposed(input.clone(), &order), &back), input);
        }
    }
}
