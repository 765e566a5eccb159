//! Identity: the same tensor under another name.

use crate::ops::movement::arguments::{only_attributes, required, required_tensor};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{HostTensor, TensorType};

/// ONNX operator spec, Identity-1 to Identity-25, for tensors.
#[derive(Debug)]
struct Identity;

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &[])?;
    Ok(Box::new(Identity))
}

impl Operator for Identity {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        Ok(vec![required(inputs, 0)?.ty.clone()])
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
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::testing::Case;

    #[test]
    fn every_tensor_stays_what_it_is() {
        for dtype in EVERY_SIZE {
            for shape in [&[][..], &[3], &[2, 0], &[2, 3, 5]] {
                let input = numbered(dtype, shape);
                assert_eq!(Case::new("Identity", 25).input(input.clone()).check(), [input]);
            }
        }
    }
}
