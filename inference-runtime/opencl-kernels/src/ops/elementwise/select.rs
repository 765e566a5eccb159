//! Where: picks between two broadcast operands by a third.

use super::attributes::only;
use super::broadcast::{broadcast, positions};
use super::map::Map;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Emitter, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "select.cl",
    text: concat!(include_str!("select.cl"), include_str!("broadcast.cl")),
};

/// Where-9, Where-16: `condition ? x : y` for elements of any type, which are only moved.
#[derive(Debug, Clone, PartialEq)]
struct Select {
    dtype: DType,
}

/// Lowers Where.
pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only(node, &[])?;
    node.require_dtype(0, &[DType::Bool])?;
    let dtype = node.dtype(1)?;
    node.require_dtype(2, &[dtype])?;
    Ok(Box::new(Select { dtype }))
}

impl Operator for Select {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let [Some(condition), Some(x), Some(y)] = inputs else {
            return Err(format!("three inputs expected, {} given", inputs.len()));
        };
        let shape = broadcast(&[condition.shape(), x.shape(), y.shape()])?;
        Ok(vec![TensorType::new(self.dtype, shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let [Some(condition), Some(x), Some(y)] = inputs else {
            return Err(format!("three inputs expected, {} given", inputs.len()));
        };
        let shape = broadcast(&[condition.shape(), x.shape(), y.shape()])?;
        let size = self.dtype.size();
        let mut bytes = Vec::new();
        let places = positions(&shape, condition.shape())
            .zip(positions(&shape, x.shape()).zip(positions(&shape, y.shape())));
        for (in_condition, (in_x, in_y)) in places {
            let (source, at) = if condition.bytes()[in_condition] != 0 {
                (x, in_x)
            } else {
                (y, in_y)
            };
            bytes.extend_from_slice(&source.bytes()[at * size..][..size]);
        }
        Ok(vec![HostTensor::new(TensorType::new(self.dtype, shape), bytes)])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let shape = emitter.output_type(0).shape.clone();
        let shapes = [0, 1, 2].map(|i| emitter.input_type(i).shape.clone());
        let [condition, x, y] = [0, 1, 2].map(|i| emitter.read(i));
        let output = emitter.write(0);
        let map = Map {
            source: SOURCE,
            options: vec![format!("-DSECOND={}", self.dtype.cl_mover())],
            parameters: [0.0; 2],
        };
        let operands = [(condition, &*shapes[0]), (x, &*shapes[1]), (y, &*shapes[2])];
        map.emit(emitter, (output, &shape), operands)
    }
}
