//! `GlobalMaxPool`, `GlobalAveragePool` and `GlobalLpPool` (ONNX operator spec, version 1 to 22).

use super::kind::Kind;
use super::windows::exponent;
use crate::ops::NodeView;
use crate::ops::matmul::{int, refuse_unknown};
use crate::ops::operator::{Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::runtime::DeviceKind;
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "pool_whole.cl",
    text: include_str!("whole.cl"),
};

/// Work-items per plane on GPUs.
const GROUP: usize = 64;

/// Pooling of each channel of each image to one element.
#[derive(Debug)]
pub(super) struct Whole {
    kind: Kind,
}

/// `GlobalMaxPool`.
pub(super) fn max(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    construct(node, &[], Kind::Max)
}

/// `GlobalAveragePool`.
pub(super) fn average(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    construct(node, &[], Kind::Average { count_padding: false })
}

/// `GlobalLpPool`.
pub(super) fn norm(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    construct(node, &["p"], Kind::Norm { p: exponent(node)? })
}

fn construct(node: &NodeView<'_>, known: &[&str], kind: Kind) -> Result<Box<dyn Operator>, String> {
    refuse_unknown(node, known)?;
    node.require_dtype(0, &[DType::F32])?;
    let rank = node.rank(0)?;
    if rank < 3 {
        return Err(format!("input of rank {rank} has no spatial axes"));
    }
    Ok(Box::new(Whole { kind }))
}

fn pooled(x: &[usize]) -> Vec<usize> {
    let mut shape = vec![1; x.len()];
    shape[..2].copy_from_slice(&x[..2]);
    shape
}

impl Operator for Whole {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let x = inputs.first().copied().flatten().ok_or("input 0 is missing")?;
        Ok(vec![TensorType::new(DType::F32, pooled(x.shape()))])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let x = inputs.first().copied().flatten().ok_or("input 0 is missing")?;
        let values = x.to_f32().ok_or_else(|| format!("input is {}", x.ty()))?;
        let shape = pooled(x.shape());
        let elements: usize = x.shape()[2..].iter().product();
        let joined: Vec<f32> = (0..shape[0] * shape[1])
            .map(|plane| {
                let plane = &values[plane * elements..(plane + 1) * elements];
                self.kind.join(plane, elements) as f32
            })
            .collect();
        Ok(vec![HostTensor::f32(shape, &joined)])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let x = emitter.input_type(0).shape.clone();
        let planes = x[0] * x[1];
        let elements: usize = x[2..].iter().product();
        let args = vec![
            emitter.read(0),
            emitter.write(0),
            Arg::I32(int(planes)?),
            Arg::I32(int(elements)?),
            Arg::F32(self.kind.exponent()),
        ];
        let (kernel, global, local) = match emitter.device().kind {
            DeviceKind::Cpu => ("pool_whole", planes, 1),
            DeviceKind::Gpu => ("pool_whole_group", planes * GROUP, GROUP),
        };
        emitter.launch(Launch {
            source: SOURCE,
            kernel,
            options: vec![self.kind.option()],
            args,
            global: [global, 1, 1],
            local: [local, 1, 1],
        });
        Ok(())
    }
}
