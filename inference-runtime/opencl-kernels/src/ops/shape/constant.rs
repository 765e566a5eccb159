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

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::ops::movement::elements::numbered;
    use crate::tensor::{DType, HostTensor};
    use crate::testing::Case;

    fn value(name: &str, value: Attribute, dtype: DType, rank: usize) -> HostTensor {
        Case::new("Constant", 13)
            .attr(name, value)
            .output(dtype, rank)
            .check()
            .remove(0)
    }

    #[test]
    fn every_kind_of_number_is_a_tensor() {
        let tensor = numbered(DType::F16, &[2, 3]);
        assert_eq!(
            value("value", Attribute::Tensor(tensor.clone()), DType::F16, 2),
            tensor
        );
        assert_eq!(
            value("value_float", Attribute::Float(1.5), DType::F32, 0),
            HostTensor::f32([], &[1.5])
        );
        let floats = Attribute::Floats(vec![1.0, -2.0]);
        assert_eq!(
            value("value_floats", floats, DType::F32, 1),
            HostTensor::f32([2], &[1.0, -2.0])
        );
        assert_eq!(
            value("value_int", Attribute::Int(-7), DType::I64, 0),
            HostTensor::i64([], &[-7])
        );
        assert_eq!(
            value("value_ints", Attribute::Ints(vec![]), DType::I64, 1),
            HostTensor::i64([0], &[])
        );
    }

    #[test]
    fn a_constant_too_large_to_fold_is_written_on_the_device() {
        let tensor = numbered(DType::U8, &[70_000]);
        assert_eq!(
            value("value", Attribute::Tensor(tensor.clone()), DType::U8, 1),
            tensor
        );
    }

    #[test]
    fn other_constants_are_refused() {
        let refusal = |case: Case| case.output(DType::F32, 0).refusal().to_string();
        let constant = |version| Case::new("Constant", version);
        assert!(refusal(constant(13)).contains("a constant without a value"));
        let text = Attribute::String("text".to_owned());
        assert!(
            refusal(constant(13).attr("value_string", text)).contains("'value_string' is not known here")
        );
        assert!(
            refusal(constant(11).attr("value_int", Attribute::Int(1))).contains("'value_int' is not known")
        );
        let two = constant(13)
            .attr("value_int", Attribute::Int(1))
            .attr("value_float", Attribute::Float(1.0));
        assert!(refusal(two).contains("a constant with several values"));
    }
}
