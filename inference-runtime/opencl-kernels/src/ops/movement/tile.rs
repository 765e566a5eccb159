//! Tile: the whole tensor repeated along each axis.

use super::arguments::{extent, only_attributes, operands, required, required_tensor};
use super::elements::{pick, strides};
use super::strided::StridedCopy;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter};
use crate::tensor::{HostTensor, Shape, TensorType};

/// ONNX operator spec, Tile-6 and Tile-13.
#[derive(Debug)]
struct Tile;

/// Repeated axes per launch: each becomes two axes of the copy, of which there are at most eight.
const AXES_AT_ONCE: usize = 3;

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &[])?;
    Ok(Box::new(Tile))
}

fn repeats(inputs: &[Option<Operand<'_>>]) -> Result<Vec<usize>, Reason> {
    let data = required(inputs, 0)?;
    let repeats = required(inputs, 1)?
        .ints("the repeats")?
        .into_iter()
        .map(|value| extent(value, "a repeat"))
        .collect::<Result<Vec<_>, _>>()?;
    if repeats.len() != data.shape().len() {
        return Err(format!("{} repeats for {}", repeats.len(), data.ty));
    }
    Ok(repeats)
}

/// The copy that repeats the axes that `repeats` repeats.
fn repetition(shape: &[usize], repeats: &[usize]) -> StridedCopy {
    let mut extents = Vec::new();
    let mut from = Vec::new();
    for ((&extent, &repeat), stride) in shape.iter().zip(repeats).zip(strides(shape)) {
        extents.extend([repeat, extent]);
        from.extend([0, stride as isize]);
    }
    StridedCopy::to_dense(&extents, &from, 0)
}

/// The same repetition in steps, innermost axes first, none of which repeats too many axes at once.
fn steps(repeats: &[usize]) -> Vec<Vec<usize>> {
    let repeated: Vec<usize> = (0..repeats.len()).filter(|&a| repeats[a] != 1).collect();
    repeated
        .rchunks(AXES_AT_ONCE)
        .map(|axes| {
            let mut step = vec![1; repeats.len()];
            for &axis in axes {
                step[axis] = repeats[axis];
            }
            step
        })
        .collect()
}

fn tiled(shape: &[usize], repeats: &[usize]) -> Shape {
    shape
        .iter()
        .zip(repeats)
        .map(|(extent, repeat)| extent * repeat)
        .collect()
}

impl Operator for Tile {
    fn static_inputs(&self) -> &'static [usize] {
        &[1]
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let data = required(inputs, 0)?;
        let shape = tiled(data.shape(), &repeats(inputs)?);
        Ok(vec![TensorType::new(data.dtype(), shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let ty = self.infer(&operands(inputs))?.remove(0);
        let data = required_tensor(inputs, 0)?;
        Ok(vec![pick(ty, data, |to, from| {
            for ((from, to), extent) in from.iter_mut().zip(to).zip(data.shape()) {
                *from = to % extent;
            }
        })])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let repeats = repeats(&[emitter.input(0), emitter.input(1)])?;
        let mut shape = emitter.input_type(0).shape.clone();
        let size = emitter.input_type(0).dtype.size();
        let steps = steps(&repeats);
        let Some((last, before)) = steps.split_last() else {
            emitter.alias(0, 0);
            return Ok(());
        };
        if before.is_empty() {
            return repetition(&shape, last).emit(emitter, 0, 0, size);
        }
        let mut source: Arg = emitter.read(0);
        for step in before {
            let next = tiled(&shape, step);
            let target = emitter.scratch(next.iter().product::<usize>() * size);
            repetition(&shape, step).emit_between(emitter, (source, target.clone()), size)?;
            (shape, source) = (next, target);
        }
        let target = emitter.write(0);
        repetition(&shape, last).emit_between(emitter, (source, target), size)
    }
}

#[cfg(test)]
mod tests {
    use super::steps;
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::tensor::{DType, HostTensor};
    use crate::testing::Case;

    fn case(input: HostTensor, repeats: &[i64]) -> Case {
        Case::new("Tile", 13)
            .input(input)
            .constant(HostTensor::i64([repeats.len()], repeats))
    }

    #[test]
    fn the_whole_tensor_is_repeated() {
        let tiled = case(HostTensor::f32([2, 2], &[1.0, 2.0, 3.0, 4.0]), &[1, 2]).check();
        let expected = HostTensor::f32([2, 4], &[1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
        assert_eq!(tiled, [expected]);
    }

    #[test]
    fn every_rank_and_element_size_is_repeated() {
        for dtype in EVERY_SIZE {
            case(numbered(dtype, &[]), &[]).check();
            case(numbered(dtype, &[5]), &[3]).check();
            case(numbered(dtype, &[2, 16]), &[3, 2]).check();
            case(numbered(dtype, &[2, 3]), &[0, 2]).check();
            case(numbered(dtype, &[2, 3]), &[1, 1]).check();
            case(
                numbered(dtype, &[1, 2, 3, 1, 2, 2, 2, 1]),
                &[2, 2, 1, 2, 2, 2, 2, 3],
            )
            .check();
        }
    }

    #[test]
    fn repeats_that_make_no_sense_are_refused() {
        let refusal = case(numbered(DType::F32, &[2]), &[-1]).refusal().to_string();
        assert!(refusal.contains("a repeat is -1"), "{refusal}");
        let refusal = case(numbered(DType::F32, &[2]), &[1, 1]).refusal().to_string();
        assert!(refusal.contains("2 repeats for float32[2]"), "{refusal}");
    }

    #[test]
    fn many_repeated_axes_take_several_steps_of_few() {
        assert_eq!(steps(&[1, 1]), Vec::<Vec<usize>>::new());
        assert_eq!(steps(&[2, 1, 3]), [[2, 1, 3]]);
        assert_eq!(
            steps(&[2, 3, 4, 5, 1, 6, 7]),
            [[1, 1, 1, 5, 1, 6, 7], [2, 3, 4, 1, 1, 1, 1]]
        );
    }
}
