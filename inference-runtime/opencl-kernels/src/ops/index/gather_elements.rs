//! `GatherElements`: along one axis every element comes from its own index.

use super::position::{checked, index_option, integers, require_indices};
use crate::ops::movement::arguments::{axis, only_attributes, operands, required, required_tensor};
use crate::ops::movement::elements::{Elements, for_each_index, position, strides};
use crate::ops::movement::strided::{GROUP, StridedCopy, element_option, index};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "gather_elements.cl",
    text: include_str!("gather_elements.cl"),
};

/// ONNX operator spec, `GatherElements-11` and `-13`.
#[derive(Debug)]
struct GatherElements {
    axis: usize,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &["axis"])?;
    require_indices(view, 1)?;
    let axis = axis(view.int("axis", 0), view.rank(0)?)?;
    Ok(Box::new(GatherElements { axis }))
}

/// Checks that indices along `axis` stay within the data on all other axes.
pub(super) fn check_alignment(data: &TensorType, indices: &TensorType, axis: usize) -> Result<(), Reason> {
    let within = indices.rank() == data.rank()
        && (0..data.rank()).all(|a| a == axis || indices.shape[a] <= data.shape[a]);
    if !within || (data.shape[axis] == 0 && indices.elements() > 0) {
        return Err(format!("indices {indices} along axis {axis} of {data}"));
    }
    Ok(())
}

impl Operator for GatherElements {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let (data, indices) = (required(inputs, 0)?, required(inputs, 1)?);
        check_alignment(data.ty, indices.ty, self.axis)?;
        Ok(vec![TensorType::new(data.dtype(), indices.shape().clone())])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let ty = self.infer(&operands(inputs))?.remove(0);
        let (data, indices) = (required_tensor(inputs, 0)?, required_tensor(inputs, 1)?);
        let length = data.shape()[self.axis];
        let places = integers(indices)?
            .into_iter()
            .map(|index| checked(index, length))
            .collect::<Result<Vec<_>, _>>()?;
        let mut gathered = Elements::zeroed(ty);
        for_each_index(indices.shape(), |to, index| {
            let mut from = index.to_vec();
            from[self.axis] = places[to];
            gathered.set(to, data, position(data.shape(), &from));
        });
        Ok(vec![gathered.finish()])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let data = emitter.input_type(0).clone();
        let indices = emitter.input_type(1).clone();
        index(data.elements())?;
        let count = index(indices.elements())?;
        let strides = strides(&data.shape);
        let along = strides[self.axis];
        let from: Vec<isize> = (0..data.rank())
            .map(|a| if a == self.axis { 0 } else { strides[a] as isize })
            .collect();
        let across = StridedCopy::to_dense(&indices.shape, &from, 0).merged();
        let mut args = vec![emitter.read(0), emitter.read(1), emitter.write(0)];
        args.extend(emitter.fault(data.shape[self.axis]));
        args.push(Arg::U32(count as u32));
        args.extend(across.axis_args()?.reading());
        args.extend([Arg::I32(data.shape[self.axis] as i32), Arg::I32(along as i32)]);
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "gather_elements",
            options: vec![element_option(data.dtype.size()), index_option(indices.dtype)],
            args,
            global: [count as usize, 1, 1],
            local: GROUP,
        });
        Ok(())
    }
}
