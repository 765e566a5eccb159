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

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::tensor::{DType, HostTensor};
    use crate::testing::Case;

    fn case(data: HostTensor, indices: HostTensor, axis: i64) -> Case {
        let case = Case::new("GatherElements", 13).attr("axis", Attribute::Int(axis));
        case.input(data).input(indices)
    }

    /// Indices all over an axis, negative ones too.
    fn spread(shape: &[usize], length: usize) -> HostTensor {
        let length = length as i64;
        let count = shape.iter().product::<usize>() as i64;
        let values: Vec<i64> = (0..count)
            .map(|i| (i * 7 + i / 5) % (2 * length) - length)
            .collect();
        HostTensor::i64(shape, &values)
    }

    #[test]
    fn the_specification_s_examples_hold() {
        let data = HostTensor::i32([2, 2], &[1, 2, 3, 4]);
        let gathered = case(data, HostTensor::i64([2, 2], &[0, 0, 1, 0]), 1).check();
        assert_eq!(gathered, [HostTensor::i32([2, 2], &[1, 1, 4, 3])]);
        let data = HostTensor::i32([3, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let gathered = case(data, HostTensor::i32([2, 3], &[1, 2, 0, 2, 0, 0]), 0).check();
        assert_eq!(gathered, [HostTensor::i32([2, 3], &[4, 8, 3, 7, 2, 3])]);
    }

    #[test]
    fn every_axis_rank_and_element_size_is_gathered() {
        for dtype in EVERY_SIZE {
            for axis in 0..3 {
                let mut shape = [3, 4, 5];
                shape[axis as usize] = 7;
                case(
                    numbered(dtype, &[3, 4, 5]),
                    spread(&shape, [3, 4, 5][axis as usize]),
                    axis,
                )
                .check();
            }
            case(numbered(dtype, &[9]), spread(&[4], 9), -1).check();
            case(numbered(dtype, &[3, 4]), spread(&[2, 3], 3), 0).check();
            case(numbered(dtype, &[3, 0]), HostTensor::i64([2, 0], &[]), 0).check();
            let eight = numbered(dtype, &[2, 3, 2, 3, 2, 3, 2, 3]);
            case(eight, spread(&[2, 2, 2, 3, 4, 3, 1, 3], 2), 4).check();
        }
    }

    #[test]
    fn mistakes_are_refused() {
        let refusal = |indices, axis| {
            case(numbered(DType::F32, &[3, 4]), indices, axis)
                .refusal()
                .to_string()
        };
        let beside = refusal(HostTensor::i64([1, 5], &[0; 5]), 0);
        assert!(
            beside.contains("indices int64[1, 5] along axis 0 of float32[3, 4]"),
            "{beside}"
        );
        let beyond = refusal(HostTensor::i64([1, 2], &[0, -5]), 1);
        assert!(
            beyond.contains("index -5 is out of range for an axis of length 4"),
            "{beyond}"
        );
    }
}
