//! `ScatterElements`: updates of single elements, each placed by its own index along one axis.

use super::gather_elements::check_alignment;
use super::position::{checked, index_option, integers, require_indices};
use super::reduction::{self, Reduction, type_option};
use crate::ops::movement::arguments::{axis, only_attributes, operands, required, required_tensor};
use crate::ops::movement::elements::{Elements, for_each_index, position, strides};
use crate::ops::movement::strided::{Axis, GROUP, StridedCopy, element_option, index};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "scatter_elements.cl",
    text: include_str!("scatter_elements.cl"),
};

/// ONNX operator spec, Scatter-9 and `ScatterElements-11` to `-18`. Where the specification leaves the result of
/// duplicate indices open, the last update counts, as in ONNX Runtime.
#[derive(Debug)]
struct ScatterElements {
    axis: usize,
    reduction: Option<Reduction>,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let attributes: &[&str] = if view.node().since_version < 16 {
        &["axis"]
    } else {
        &["axis", "reduction"]
    };
    only_attributes(view, attributes)?;
    require_indices(view, 1)?;
    let axis = axis(view.int("axis", 0), view.rank(0)?)?;
    let reduction = Reduction::of(view)?;
    Ok(Box::new(ScatterElements { axis, reduction }))
}

impl ScatterElements {
    fn positions(&self, data: &TensorType, indices: &HostTensor) -> Result<Vec<usize>, Reason> {
        let places = integers(indices)?
            .into_iter()
            .map(|index| checked(index, data.shape[self.axis]))
            .collect::<Result<Vec<_>, _>>()?;
        let mut positions = Vec::with_capacity(places.len());
        for_each_index(indices.shape(), |at, index| {
            let mut to = index.to_vec();
            to[self.axis] = places[at];
            positions.push(position(&data.shape, &to));
        });
        Ok(positions)
    }

    fn emit_replacing(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let data = emitter.input_type(0).clone();
        let indices = emitter.input_type(1).clone();
        let count = indices.elements();
        let strides = strides(&data.shape);
        let across: Vec<isize> = (0..data.rank())
            .map(|a| if a == self.axis { 0 } else { strides[a] as isize })
            .collect();
        let across = StridedCopy::to_dense(&indices.shape, &across, 0)
            .merged()
            .axis_args()?;
        let launch = |kernel, count, args| Launch {
            source: SOURCE,
            kernel,
            options: vec![element_option(data.dtype.size()), index_option(indices.dtype)],
            args,
            global: [count, 1, 1],
            local: GROUP,
        };
        let bids = emitter.scratch(data.elements() * 4);
        let clear = vec![bids.clone(), Arg::U32(data.elements() as u32)];
        emitter.launch(launch("clear_bids", data.elements(), clear));

        let mut targets = emitter.fault(data.shape[self.axis]).to_vec();
        targets.push(Arg::U32(count as u32));
        targets.extend(across.reading());
        targets.push(Arg::I32(data.shape[self.axis] as i32));
        targets.push(Arg::I32(strides[self.axis] as i32));

        let bid = [vec![emitter.read(1), bids.clone()], targets.clone()].concat();
        emitter.launch(launch("bid", count, bid));
        let buffers = vec![emitter.read(2), emitter.read(1), bids, emitter.write(0)];
        emitter.launch(launch("scatter_elements", count, [buffers, targets].concat()));
        Ok(())
    }

    fn emit_reducing(&self, emitter: &mut Emitter<'_>, reduction: Reduction) -> Result<(), Reason> {
        let data = emitter.input_type(0).clone();
        let indices = emitter.input_type(1).clone();
        let (from, to) = (strides(&indices.shape), strides(&data.shape));
        let lines = StridedCopy {
            axes: (0..data.rank())
                .filter(|&a| a != self.axis)
                .map(|a| Axis {
                    extent: indices.shape[a],
                    from: from[a] as isize,
                    to: to[a] as isize,
                })
                .collect(),
            from: 0,
            to: 0,
        };
        let count: usize = lines.axes.iter().map(|axis| axis.extent).product();
        let mut args = vec![emitter.read(2), emitter.read(1), emitter.write(0)];
        args.extend(emitter.fault(data.shape[self.axis]));
        args.push(Arg::U32(count as u32));
        args.extend(lines.merged().axis_args()?.moving());
        args.extend([
            Arg::I32(indices.shape[self.axis] as i32),
            Arg::I32(from[self.axis] as i32),
            Arg::I32(data.shape[self.axis] as i32),
            Arg::I32(to[self.axis] as i32),
            reduction.arg(),
        ]);
        emitter.launch(Launch {
            source: reduction::SOURCE,
            kernel: "reduce_lines",
            options: vec![type_option(data.dtype), index_option(indices.dtype)],
            args,
            global: [count, 1, 1],
            local: GROUP,
        });
        Ok(())
    }
}

impl Operator for ScatterElements {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let (data, indices, updates) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        check_alignment(data.ty, indices.ty, self.axis)?;
        if updates.shape() != indices.shape() || updates.dtype() != data.dtype() {
            return Err(format!(
                "updates {} at indices {} of {}",
                updates.ty, indices.ty, data.ty
            ));
        }
        Ok(vec![data.ty.clone()])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        self.infer(&operands(inputs))?;
        let (data, updates) = (required_tensor(inputs, 0)?, required_tensor(inputs, 2)?);
        let positions = self.positions(data.ty(), required_tensor(inputs, 1)?)?;
        if let Some(reduction) = self.reduction {
            return Ok(vec![reduction.apply(data, updates, &positions)?]);
        }
        let mut scattered = Elements::copied(data);
        for (from, to) in positions.into_iter().enumerate() {
            scattered.set(to, updates, from);
        }
        Ok(vec![scattered.finish()])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        index(emitter.input_type(0).elements())?;
        index(emitter.input_type(1).elements())?;
        if emitter.input_type(1).elements() == 0 {
            emitter.alias(0, 0);
            return Ok(());
        }
        let bytes = emitter.input_type(0).bytes();
        emitter.copy((0, 0), (0, 0), bytes);
        match self.reduction {
            None => self.emit_replacing(emitter),
            Some(reduction) => self.emit_reducing(emitter, reduction),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::tensor::{DType, HostTensor};
    use crate::testing::{Case, tensor};

    fn case(data: HostTensor, indices: HostTensor, updates: HostTensor, axis: i64) -> Case {
        let case = Case::new("ScatterElements", 18).attr("axis", Attribute::Int(axis));
        case.input(data).input(indices).input(updates)
    }

    fn reducing(case: Case, reduction: &str) -> Case {
        case.attr("reduction", Attribute::String(reduction.to_owned()))
    }

    /// Indices with many duplicates, negative ones too.
    fn crowded(shape: &[usize], length: usize) -> HostTensor {
        let length = length as i64;
        let count = shape.iter().product::<usize>() as i64;
        let values: Vec<i64> = (0..count)
            .map(|i| (i * i + i / 3) % (2 * length) - length)
            .collect();
        HostTensor::i64(shape, &values)
    }

    #[test]
    fn the_specification_s_examples_hold() {
        let updates = HostTensor::f32([2, 3], &[1.0, 1.1, 1.2, 2.0, 2.1, 2.2]);
        let indices = HostTensor::i64([2, 3], &[1, 0, 2, 0, 2, 1]);
        let scattered = case(HostTensor::f32([3, 3], &[0.0; 9]), indices, updates, 0).check();
        let expected = [2.0, 1.1, 0.0, 1.0, 0.0, 2.2, 0.0, 2.1, 1.2];
        assert_eq!(scattered, [HostTensor::f32([3, 3], &expected)]);

        let data = HostTensor::f32([1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0]);
        let updates = HostTensor::f32([1, 2], &[1.1, 2.1]);
        let indices = HostTensor::i64([1, 2], &[1, 1]);
        let added = reducing(case(data, indices, updates, 1), "add").check();
        let expected = [1.0, 2.0 + 1.1 + 2.1, 3.0, 4.0, 5.0];
        assert_eq!(added[0].to_f32().unwrap().len(), expected.len());
        assert!((added[0].to_f32().unwrap()[1] - expected[1]).abs() < 1e-6);
    }

    #[test]
    fn the_last_of_several_updates_counts() {
        let data = HostTensor::i32([6], &[0, 1, 2, 3, 4, 5]);
        let updates = HostTensor::i32([3], &[10, 20, 30]);
        let scattered = case(data, HostTensor::i32([3], &[1, 1, -1]), updates, 0).check();
        assert_eq!(scattered, [HostTensor::i32([6], &[0, 20, 2, 3, 4, 30])]);
        // Enough updates of one element for many work-groups to race.
        let updates = HostTensor::i32([5000], &(0..5000).collect::<Vec<_>>());
        let raced = case(
            HostTensor::i32([2], &[0, 0]),
            HostTensor::i64([5000], &vec![1; 5000]),
            updates,
            0,
        );
        assert_eq!(raced.check(), [HostTensor::i32([2], &[0, 4999])]);
    }

    #[test]
    fn every_axis_rank_and_element_size_is_scattered() {
        for dtype in EVERY_SIZE {
            for axis in 0..3 {
                let mut shape = [2, 4, 3];
                shape[axis as usize] = 6;
                let indices = crowded(&shape, [3, 4, 5][axis as usize]);
                case(
                    numbered(dtype, &[3, 4, 5]),
                    indices,
                    numbered(dtype, &shape),
                    axis,
                )
                .check();
            }
            let none = numbered(dtype, &[0, 2]);
            case(numbered(dtype, &[3, 2]), HostTensor::i64([0, 2], &[]), none, 0).check();
            let eight = [2, 2, 2, 3, 4, 3, 1, 3];
            let data = numbered(dtype, &[2, 3, 2, 3, 2, 3, 2, 3]);
            case(data, crowded(&eight, 2), numbered(dtype, &eight), 4).check();
        }
        let old = Case::new("Scatter", 9)
            .input(numbered(DType::F32, &[3]))
            .input(HostTensor::i64([1], &[-1]));
        let old = old.input(HostTensor::f32([1], &[9.0])).check();
        assert_eq!(old, [HostTensor::f32([3], &[0.0, 1.0, 9.0])]);
    }

    #[test]
    fn reductions_combine_in_order() {
        for reduction in ["add", "mul", "max", "min"] {
            for axis in [0, 1] {
                let shape = [4, 3];
                let indices = crowded(&shape, [5, 3][axis as usize]);
                let floats = case(tensor(&[5, 3], 1), indices.clone(), tensor(&shape, 2), axis);
                reducing(floats.within(0.0, 1e-6), reduction).check();
                let (data, updates) = (numbered(DType::I32, &[5, 3]), numbered(DType::I32, &shape));
                reducing(case(data, indices.clone(), updates, axis), reduction).check();
                let (data, updates) = (numbered(DType::I64, &[5, 3]), numbered(DType::I64, &shape));
                reducing(case(data, indices, updates, axis), reduction).check();
            }
        }
        let line = |reduction| {
            let data = HostTensor::i64([3], &[2, 3, 4]);
            let (indices, updates) = (
                HostTensor::i64([3], &[0, 0, 2]),
                HostTensor::i64([3], &[5, -1, 3]),
            );
            reducing(case(data, indices, updates, 0), reduction)
                .check()
                .remove(0)
                .to_i64()
                .unwrap()
        };
        assert_eq!(line("add"), [6, 3, 7]);
        assert_eq!(line("mul"), [-10, 3, 12]);
        assert_eq!(line("max"), [5, 3, 4]);
        assert_eq!(line("min"), [-1, 3, 3]);
    }

    #[test]
    fn mistakes_are_refused() {
        let given = |indices: HostTensor, updates: &[usize]| {
            let updates = numbered(DType::F32, updates);
            case(numbered(DType::F32, &[3]), indices, updates, 0)
        };
        let refusal = |case: Case| case.refusal().to_string();
        let beyond = || given(HostTensor::i64([2], &[0, 3]), &[2]);
        assert!(refusal(beyond()).contains("index 3 is out of range for an axis of length 3"));
        assert!(
            refusal(reducing(beyond(), "add")).contains("index 3 is out of range for an axis of length 3")
        );
        let uneven = refusal(given(HostTensor::i64([2], &[0, 1]), &[3]));
        assert!(
            uneven.contains("updates float32[3] at indices int64[2] of float32[3]"),
            "{uneven}"
        );
        let half = numbered(DType::F16, &[1]);
        let half = case(half.clone(), HostTensor::i64([1], &[0]), half, 0);
        assert!(refusal(reducing(half, "add")).contains("input 0 is float16"));
        assert!(refusal(reducing(beyond(), "mean")).contains("reduction 'mean'"));
    }
}
