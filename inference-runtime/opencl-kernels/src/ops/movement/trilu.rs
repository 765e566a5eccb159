//! Trilu: the upper or lower triangle of each matrix.

use super::arguments::{only_attributes, operands, required, required_tensor};
use super::divisor::Divisor;
use super::elements::{Elements, for_each_index};
use super::strided::{GROUP, element_option, index};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "trilu.cl",
    text: include_str!("trilu.cl"),
};

/// ONNX operator spec, Trilu-14.
#[derive(Debug)]
struct Trilu {
    upper: bool,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &["upper"])?;
    if view.rank(0)? < 2 {
        return Err(format!("an input with {} axes is no matrix", view.rank(0)?));
    }
    Ok(Box::new(Trilu {
        upper: view.int("upper", 1) != 0,
    }))
}

/// The diagonal that bounds the triangle; beyond the corners every diagonal is the same.
fn diagonal(inputs: &[Option<Operand<'_>>]) -> Result<i32, Reason> {
    let Some(k) = inputs.get(1).copied().flatten() else {
        return Ok(0);
    };
    match k.ints("the diagonal k")?.as_slice() {
        [k] => Ok((*k).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32),
        _ => Err(format!("the diagonal k is one integer, not {}", k.ty)),
    }
}

impl Operator for Trilu {
    fn static_inputs(&self) -> &'static [usize] {
        &[1]
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        diagonal(inputs)?;
        Ok(vec![required(inputs, 0)?.ty.clone()])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let data = required_tensor(inputs, 0)?;
        let diagonal = diagonal(&operands(inputs))?;
        let mut triangle = Elements::zeroed(data.ty().clone());
        for_each_index(data.shape(), |at, index| {
            let [.., row, column] = *index else {
                return;
            };
            let above = column as i64 - row as i64;
            let kept = if self.upper {
                above >= i64::from(diagonal)
            } else {
                above <= i64::from(diagonal)
            };
            if kept {
                triangle.set(at, data, at);
            }
        });
        Ok(vec![triangle.finish()])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let diagonal = diagonal(&[emitter.input(0), emitter.input(1)])?;
        let data = emitter.input_type(0).clone();
        let [.., rows, columns] = *data.shape.as_slice() else {
            return Err(format!("{data} is no matrix"));
        };
        let count = index(data.elements())?;
        let mut args = vec![emitter.read(0), emitter.write(0), Arg::U32(count as u32)];
        for extent in [columns, rows] {
            args.extend(Divisor::args(extent));
        }
        args.extend([Arg::I32(diagonal), Arg::I32(i32::from(self.upper))]);
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "trilu",
            options: vec![element_option(data.dtype.size())],
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
    use crate::tensor::{DType, HostTensor};
    use crate::testing::Case;

    fn case(input: HostTensor, upper: i64, k: i64) -> Case {
        Case::new("Trilu", 14)
            .attr("upper", Attribute::Int(upper))
            .input(input)
            .constant(HostTensor::i64([], &[k]))
    }

    #[test]
    fn triangles_are_cut_along_the_diagonal() {
        let matrix = HostTensor::i32([2, 3], &[1, 2, 3, 4, 5, 6]);
        let cut = |upper, k| case(matrix.clone(), upper, k).check().remove(0).to_i32().unwrap();
        assert_eq!(cut(1, 0), [1, 2, 3, 0, 5, 6]);
        assert_eq!(cut(0, 0), [1, 0, 0, 4, 5, 0]);
        assert_eq!(cut(1, 1), [0, 2, 3, 0, 0, 6]);
        assert_eq!(cut(0, -1), [0, 0, 0, 4, 0, 0]);
        assert_eq!(cut(1, i64::MIN), [1, 2, 3, 4, 5, 6]);
        assert_eq!(cut(1, i64::MAX), [0; 6]);
    }

    #[test]
    fn by_default_the_upper_triangle_stays() {
        let upper = Case::new("Trilu", 14)
            .input(HostTensor::i32([2, 2], &[1, 2, 3, 4]))
            .check();
        assert_eq!(upper, [HostTensor::i32([2, 2], &[1, 2, 0, 4])]);
    }

    #[test]
    fn every_rank_and_element_size_is_cut() {
        for dtype in EVERY_SIZE {
            for shape in [&[5, 7][..], &[2, 3, 7, 5], &[2, 0, 3], &[2, 1, 2, 1, 2, 1, 3, 3]] {
                case(numbered(dtype, shape), 0, 1).check();
                case(numbered(dtype, shape), 1, -2).check();
            }
        }
    }

    #[test]
    fn what_is_no_matrix_is_refused() {
        let refusal = case(numbered(DType::F32, &[3]), 1, 0).refusal().to_string();
        assert!(refusal.contains("an input with 1 axes is no matrix"), "{refusal}");
    }
}
