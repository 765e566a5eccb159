//! Constant: a tensor that the node carries.

use crate::ir::Attribute;
use crate::ops::movement::arguments::only_attributes;
use crate::ops::movement::strided::StridedCopy;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{HostTensor, TensorType};

/// ONNX operator spec, Constant-1 to Constant-25, but for strings and sparse tensors.
#[derive(Debug)]
struct Constant {
    value: HostTensor,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    const NUMBERS: [&str; 4] = ["value_float", "value_floats", "value_int", "value_ints"];
    let mut known = vec!["value"];
    if view.node().since_version >= 12 {
        known.extend(NUMBERS);
    }
    only_attributes(view, &known)?;
    let mut given = known.iter().filter_map(|name| view.attributes().get(name));
    let value = match (given.next(), given.next()) {
        (Some(value), None) => tensor(value)?,
        (None, _) => return Err("a constant without a value".to_owned()),
        (Some(_), Some(_)) => return Err("a constant with several values".to_owned()),
    };
    Ok(Box::new(Constant { value }))
}

fn tensor(value: &Attribute) -> Result<HostTensor, String> {
    Ok(match value {
        Attribute::Tensor(tensor) => tensor.clone(),
        Attribute::Float(value) => HostTensor::f32([], &[*value]),
        Attribute::Floats(values) => HostTensor::f32([values.len()], values),
        Attribute::Int(value) => HostTensor::i64([], &[*value]),
        Attribute::Ints(values) => HostTensor::i64([values.len()], values),
        Attribute::String(_) | Attribute::Strings(_) => return Err("a constant of strings".to_owned()),
    })
}

impl Operator for Constant {
    fn infer(&self, _: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        Ok(vec![self.value.ty().clone()])
    }

    fn evaluate(&self, _: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        Ok(vec![self.value.clone()])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let value = emitter.constant("value", || self.value.clone());
        let target = emitter.write(0);
        let elements = self.value.ty().elements();
        StridedCopy::to_dense(&[elements], &[1], 0).emit_between(
            emitter,
            (value, target),
            self.value.dtype().size(),
        )
    }
}
