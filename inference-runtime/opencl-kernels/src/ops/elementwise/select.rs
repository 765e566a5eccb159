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

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, HostTensor, TensorType};
    use crate::testing::{Case, tensor};

    #[test]
    fn picks_by_condition() {
        let condition = HostTensor::bool([2, 2], &[true, false, false, true]);
        let x = HostTensor::f32([2, 2], &[1.0, f32::NAN, 3.0, f32::INFINITY]);
        let y = HostTensor::f32([2], &[-1.0, -2.0]);
        let picked = Case::new("Where", 16)
            .input(condition)
            .input(x)
            .input(y)
            .output(DType::F32, 2)
            .check();
        assert_eq!(picked[0].to_f32().unwrap(), [1.0, -2.0, -1.0, f32::INFINITY]);
    }

    #[test]
    fn three_operands_broadcast() {
        let shapes: [[&[usize]; 3]; 6] = [
            [&[], &[3, 1], &[40]],
            [&[2, 3, 1], &[1, 3, 35], &[]],
            [&[2, 1, 2, 1], &[1, 3, 1, 2], &[2, 3, 2, 2]],
            [&[65], &[65], &[65]],
            [&[0, 1], &[1, 3], &[]],
            [&[1, 1, 33, 33], &[2, 4, 33, 33], &[1]],
        ];
        for [condition, x, y] in shapes {
            let rank = condition.len().max(x.len()).max(y.len());
            let truths: Vec<bool> = tensor(condition, 1)
                .to_f32()
                .unwrap()
                .iter()
                .map(|v| *v > 0.0)
                .collect();
            Case::new("Where", 9)
                .input(HostTensor::bool(condition, &truths))
                .input(tensor(x, 2))
                .input(tensor(y, 3))
                .output(DType::F32, rank)
                .check();
        }
    }

    #[test]
    fn elements_of_every_size_are_moved() {
        for dtype in [DType::Bool, DType::F16, DType::U32, DType::F64, DType::I64] {
            let fill = |byte: u8| HostTensor::new(TensorType::new(dtype, [3]), vec![byte; 3 * dtype.size()]);
            let condition = HostTensor::bool([3], &[false, true, false]);
            let case = Case::new("Where", 16)
                .input(condition)
                .input(fill(1))
                .input(fill(0));
            let picked = case.output(dtype, 1).check();
            let size = dtype.size();
            let expected = [vec![0; size], vec![1; size], vec![0; size]].concat();
            assert_eq!(picked[0].bytes(), expected, "{dtype}");
        }
    }

    #[test]
    fn branches_of_two_types_are_refused() {
        let condition = HostTensor::bool([], &[true]);
        let case = Case::new("Where", 16).input(condition).input(tensor(&[], 1));
        assert!(
            case.input(HostTensor::i64([], &[1]))
                .refusal()
                .to_string()
                .contains("int64")
        );
    }
}
