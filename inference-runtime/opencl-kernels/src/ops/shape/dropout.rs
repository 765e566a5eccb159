//! Dropout at inference: nothing is dropped.

use crate::ops::movement::arguments::{only_attributes, required, required_tensor};
use crate::ops::movement::strided::StridedCopy;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{DType, HostTensor, TensorType};

/// ONNX operator spec, Dropout-7 to Dropout-22, outside of training.
#[derive(Debug)]
struct Dropout {
    /// Whether the node names its second output: what was kept, that is everything.
    has_mask: bool,
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
    let has_mask = view.node().outputs.len() > 1;
    if has_mask && version < 10 {
        return Err("a mask of floats, as before version 10".to_owned());
    }
    Ok(Box::new(Dropout { has_mask }))
}

impl Operator for Dropout {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let data = required(inputs, 0)?.ty;
        let mut types = vec![data.clone()];
        if self.has_mask {
            types.push(TensorType::new(DType::Bool, data.shape.clone()));
        }
        Ok(types)
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let data = required_tensor(inputs, 0)?;
        let mut outputs = vec![data.clone()];
        if self.has_mask {
            outputs.push(HostTensor::bool(data.shape(), &vec![true; data.ty().elements()]));
        }
        Ok(outputs)
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        emitter.alias(0, 0);
        if !emitter.wants_output(1) {
            return Ok(());
        }
        let kept = emitter.constant("kept", || HostTensor::bool([], &[true]));
        let buffers = (kept, emitter.write(1));
        let elements = emitter.output_type(1).elements();
        StridedCopy::spread(elements, 1, 0).emit_between(emitter, buffers, DType::Bool.size())
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
    fn the_mask_keeps_everything() {
        let masked = case(13).0.output(DType::F32, 2).output(DType::Bool, 2).check();
        assert_eq!(masked[1], HostTensor::bool([2, 3], &[true; 6]));
    }

    #[test]
    fn training_is_refused() {
        let trained = |mode: fn(Case) -> Case| mode(case(12).0.absent()).refusal().to_string();
        assert!(
            trained(|case| case.constant(HostTensor::bool([], &[true]))).contains("training_mode is set")
        );
        assert!(trained(|case| case.input(HostTensor::bool([], &[false]))).contains("is not a constant"));
        let masked = case(7).0.output(DType::F32, 2).output(DType::F32, 2);
        assert!(masked.refusal().to_string().contains("a mask of floats"));
    }
}
