//! Gather: the entries of an axis that indices name. What looks words up in an embedding table.

use super::position::{checked, index_option, integers, require_indices};
use crate::ops::movement::arguments::{axis, only_attributes, operands, required, required_tensor};
use crate::ops::movement::divisor::Divisor;
use crate::ops::movement::elements::{pick, position};
use crate::ops::movement::strided::{GROUP, element_option, index, widening};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "gather.cl",
    text: include_str!("gather.cl"),
};

/// ONNX operator spec, Gather-1 to Gather-13.
#[derive(Debug)]
struct Gather {
    axis: usize,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &["axis"])?;
    require_indices(view, 1)?;
    let axis = axis(view.int("axis", 0), view.rank(0)?)?;
    Ok(Box::new(Gather { axis }))
}

impl Operator for Gather {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let (data, indices) = (required(inputs, 0)?, required(inputs, 1)?);
        if data.shape()[self.axis] == 0 && indices.ty.elements() > 0 {
            return Err(format!(
                "{} indices into the empty axis {} of {}",
                indices.ty.elements(),
                self.axis,
                data.ty
            ));
        }
        let (outer, inner) = data.shape().split_at(self.axis);
        let shape = [outer, indices.shape(), &inner[1..]].concat();
        Ok(vec![TensorType::new(data.dtype(), shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let ty = self.infer(&operands(inputs))?.remove(0);
        let (data, indices) = (required_tensor(inputs, 0)?, required_tensor(inputs, 1)?);
        let length = data.shape()[self.axis];
        let places = integers(indices)?
            .into_iter()
            .map(|index| checked(index, length))
            .collect::<Result<Vec<_>, _>>()?;
        let rank = indices.shape().len();
        Ok(vec![pick(ty, data, |to, from| {
            let (outer, rest) = to.split_at(self.axis);
            let (place, inner) = rest.split_at(rank);
            from[..self.axis].copy_from_slice(outer);
            from[self.axis] = places[position(indices.shape(), place)];
            from[self.axis + 1..].copy_from_slice(inner);
        })])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let data = emitter.input_type(0).clone();
        let indices = emitter.input_type(1).clone();
        let length = data.shape[self.axis];
        let run: usize = data.shape[self.axis + 1..].iter().product();
        let wide = widening([run], data.dtype.size());
        index(data.elements())?;
        let count = index(emitter.output_type(0).elements())? as usize / wide;
        let mut args = vec![emitter.read(0), emitter.read(1), emitter.write(0)];
        args.extend(emitter.fault(length));
        args.push(Arg::U32(count as u32));
        args.extend(Divisor::args(run / wide));
        args.extend(Divisor::args(indices.elements()));
        args.push(Arg::I32(length as i32));
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "gather",
            options: vec![
                element_option(data.dtype.size() * wide),
                index_option(indices.dtype),
            ],
            args,
            global: [count, 1, 1],
            local: GROUP,
        });
        Ok(())
    }
}
