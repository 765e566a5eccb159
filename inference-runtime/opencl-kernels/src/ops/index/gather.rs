//! Gather: the entries of an axis that indices name. What looks words up in an embedding table.

use super::position::{checked, index_option, integers, require_indices};
use crate::ops::movement::arguments::{axis, only_attributes, operands, required, required_tensor};
use crate::ops::movement::divisor::Divisor;
use crate::ops::movement::elements::{pick, position};
use crate::ops::movement::strided::{GROUP, element_option, index, widening};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "gather.cl",
    text: include_str!("gather.cl"),
};

/// ONNX operator spec, Gather-1 to Gather-13.
#[derive(Debug)]
struct Gather {
    axis: usize,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &["axis"])?;
    require_indices(view, 1)?;
    let axis = axis(view.int("axis", 0), view.rank(0)?)?;
    Ok(Box::new(Gather { axis }))
}

impl Operator for Gather {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let (data, indices) = (required(inputs, 0)?, required(inputs, 1)?);
        if data.shape()[self.axis] == 0 && indices.ty.elements() > 0 {
            return Err(format!(
                "{} indices into the empty axis {} of {}",
                indices.ty.elements(),
                self.axis,
                data.ty
            ));
        }
        let (outer, inner) = data.shape().split_at(self.axis);
        let shape = [outer, indices.shape(), &inner[1..]].concat();
        Ok(vec![TensorType::new(data.dtype(), shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let ty = self.infer(&operands(inputs))?.remove(0);
        let (data, indices) = (required_tensor(inputs, 0)?, required_tensor(inputs, 1)?);
        let length = data.shape()[self.axis];
        let places = integers(indices)?
            .into_iter()
            .map(|index| checked(index, length))
            .collect::<Result<Vec<_>, _>>()?;
        let rank = indices.shape().len();
        Ok(vec![pick(ty, data, |to, from| {
            let (outer, rest) = to.split_at(self.axis);
            let (place, inner) = rest.split_at(rank);
            from[..self.axis].copy_from_slice(outer);
            from[self.axis] = places[position(indices.shape(), place)];
            from[self.axis + 1..].copy_from_slice(inner);
        })])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let data = emitter.input_type(0).clone();
        let indices = emitter.input_type(1).clone();
        let length = data.shape[self.axis];
        let run: usize = data.shape[self.axis + 1..].iter().product();
        let wide = widening([run], data.dtype.size());
        index(data.elements())?;
        let count = index(emitter.output_type(0).elements())? as usize / wide;
        let mut args = vec![emitter.read(0), emitter.read(1), emitter.write(0)];
        args.extend(emitter.fault(length));
        args.push(Arg::U32(count as u32));
        args.extend(Divisor::args(run / wide));
        args.extend(Divisor::args(indices.elements()));
        args.push(Arg::I32(length as i32));
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "gather",
            options: vec![
                element_option(data.dtype.size() * wide),
                index_option(indices.dtype),
            ],
            args,
            global: [count, 1, 1],
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
        let (dtype, rank) = (data.dtype(), data.shape().len() + indices.shape().len() - 1);
        let case = Case::new("Gather", 13).attr("axis", Attribute::Int(axis));
        case.input(data).input(indices).output(dtype, rank)
    }

    #[test]
    fn rows_are_looked_up_in_any_order_and_from_the_back() {
        let table = HostTensor::f32([3, 2], &[1.0, 1.2, 2.3, 3.4, 4.5, 5.7]);
        let indices = HostTensor::i64([2, 2], &[0, 1, -2, 2]);
        let expected = [1.0, 1.2, 2.3, 3.4, 2.3, 3.4, 4.5, 5.7];
        assert_eq!(
            case(table, indices, 0).check(),
            [HostTensor::f32([2, 2, 2], &expected)]
        );
    }

    #[test]
    fn a_single_index_removes_the_axis() {
        let table = HostTensor::i32([2, 3], &[1, 2, 3, 4, 5, 6]);
        let column = case(table, HostTensor::i32([], &[-1]), -1).check();
        assert_eq!(column, [HostTensor::i32([2], &[3, 6])]);
    }

    #[test]
    fn every_axis_element_size_and_index_type_is_gathered() {
        for dtype in EVERY_SIZE {
            for axis in 0..3 {
                let data = numbered(dtype, &[4, 5, 8]);
                case(data.clone(), HostTensor::i64([3], &[3, -4, 0]), axis).check();
                case(data, HostTensor::i32([2, 1, 2], &[1, 1, -1, 2]), axis).check();
            }
            case(numbered(dtype, &[7]), HostTensor::i64([5], &[6, 0, 3, 3, -7]), 0).check();
            case(numbered(dtype, &[3, 2]), HostTensor::i64([0], &[]), 0).check();
            case(numbered(dtype, &[3, 0]), HostTensor::i64([2], &[0, 1]), 0).check();
            let eight = numbered(dtype, &[2, 3, 2, 3, 2, 3, 2, 3]);
            case(eight, HostTensor::i64([2], &[1, 0]), 4).check();
        }
    }

    #[test]
    fn indices_may_be_constants() {
        let picked = Case::new("Gather", 1)
            .input(HostTensor::f32([3], &[5.0, 6.0, 7.0]))
            .constant(HostTensor::i64([2], &[2, 0]))
            .check();
        assert_eq!(picked, [HostTensor::f32([2], &[7.0, 5.0])]);
    }

    #[test]
    fn an_index_out_of_range_fails_the_run() {
        for index in [3, -4, i64::MAX, i64::MIN] {
            let indices = HostTensor::i64([2], &[0, index]);
            let refusal = case(numbered(DType::F32, &[3, 2]), indices, 0)
                .refusal()
                .to_string();
            let expected = format!("index {index} is out of range for an axis of length 3");
            assert!(refusal.contains(&expected), "{refusal}");
        }
        let nothing = case(numbered(DType::F32, &[0, 2]), HostTensor::i64([1], &[0]), 0).refusal();
        assert!(
            nothing.to_string().contains("1 indices into the empty axis 0"),
            "{nothing}"
        );
    }
}
