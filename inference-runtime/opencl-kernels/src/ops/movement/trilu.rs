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
