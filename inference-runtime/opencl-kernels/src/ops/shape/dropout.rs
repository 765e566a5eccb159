//! Dropout at inference: nothing is dropped.

use crate::ops::movement::arguments::{only_attributes, required, required_tensor};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{DType, HostTensor, TensorType};

/// ONNX operator spec, Dropout-7 to Dropout-22, outside of training.
#[derive(Debug)]
struct Dropout {
    /// Type of the mask if the node names one, though nobody reads it; floats until version 10 changed it.
    mask: Option<DType>,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let version = view.node().since_version;
    let attributes = if version < 12 { ["ratio"] } else { ["seed"] };
    only_attributes(view, &attributes)?;
    if view.has_input(2) {
        let training = view.constant(2).ok_or("training_mode is not a constant")?;
        if training.bytes() != [0] {
            return Err("training_mode is set".to_owned());
        }
    }
    if view.wants_output(1) {
        return Err("the mask is asked for".to_owned());
    }
    let mask = if version < 10 { view.dtype(0)? } else { DType::Bool };
    let named = view.node().outputs.len() > 1;
    Ok(Box::new(Dropout {
        mask: named.then_some(mask),
    }))
}

impl Operator for Dropout {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let data = required(inputs, 0)?.ty;
        let mask = self.mask.map(|dtype| TensorType::new(dtype, data.shape.clone()));
        Ok(std::iter::once(data.clone()).chain(mask).collect())
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        Ok(vec![required_tensor(inputs, 0)?.clone()])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        emitter.alias(0, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::ops::movement::elements::numbered;
    use crate::tensor::{DType, HostTensor};
    use crate::testing::Case;

    fn case(version: i32) -> (Case, HostTensor) {
        let data = numbered(DType::F32, &[2, 3]);
        (Case::new("Dropout", version).input(data.clone()), data)
    }

    #[test]
    fn nothing_is_dropped_at_inference() {
        let (case_7, data) = case(7);
        assert_eq!(case_7.attr("ratio", Attribute::Float(0.9)).check(), [data]);
        let (case_13, data) = case(13);
        let case_13 = case_13
            .constant(HostTensor::f32([], &[0.9]))
            .constant(HostTensor::bool([], &[false]));
        assert_eq!(case_13.check(), std::slice::from_ref(&data));
        assert_eq!(case_13.output(DType::F32, 2).no_output().check(), [data]);
    }

    #[test]
    fn training_and_masks_are_refused() {
        let trained = |mode: fn(Case) -> Case| mode(case(12).0.absent()).refusal().to_string();
        assert!(
            trained(|case| case.constant(HostTensor::bool([], &[true]))).contains("training_mode is set")
        );
        assert!(trained(|case| case.input(HostTensor::bool([], &[false]))).contains("is not a constant"));
        let masked = case(13).0.output(DType::F32, 2).output(DType::Bool, 2);
        assert!(masked.refusal().to_string().contains("the mask is asked for"));
    }
}
