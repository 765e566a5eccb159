//! `ScatterND`: updates of slices, each placed by a tuple of indices.

use super::gather_nd::Tuples;
use super::position::index_option;
use super::reduction::{self, Reduction, type_option};
use crate::ops::movement::arguments::{only_attributes, operands, required, required_tensor};
use crate::ops::movement::divisor::Divisor;
use crate::ops::movement::elements::Elements;
use crate::ops::movement::strided::{GROUP, element_option, index, widening};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "scatter_nd.cl",
    text: include_str!("scatter_nd.cl"),
};

/// ONNX operator spec, `ScatterND-11` to `-18`. Where the specification leaves the result of duplicate indices open,
/// the last update counts.
#[derive(Debug)]
struct ScatterNd {
    reduction: Option<Reduction>,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let attributes: &[&str] = if view.node().since_version < 16 {
        &[]
    } else {
        &["reduction"]
    };
    only_attributes(view, attributes)?;
    view.require_dtype(1, &[DType::I64])?;
    if view.rank(0)? == 0 || view.rank(1)? == 0 {
        return Err("data or indices without axes".to_owned());
    }
    let reduction = Reduction::of(view)?;
    Ok(Box::new(ScatterNd { reduction }))
}

impl ScatterNd {
    fn emit_replacing(emitter: &mut Emitter<'_>, tuples: &Tuples) {
        let data = emitter.input_type(0).clone();
        let wide = widening([tuples.run], data.dtype.size());
        let launch = |kernel, count, args| Launch {
            source: SOURCE,
            kernel,
            options: vec![element_option(data.dtype.size() * wide)],
            args,
            global: [count, 1, 1],
            local: GROUP,
        };
        let slices: usize = tuples.lengths.iter().product();
        let bids = emitter.scratch(slices * 4);
        let clear = vec![bids.clone(), Arg::U32(slices as u32)];
        emitter.launch(launch("clear_bids", slices, clear));

        // Positions count slices here, not elements.
        let to_slices = tuples.args(tuples.run);
        let mut bid = vec![emitter.read(1), bids.clone()];
        let faults = tuples.faults(emitter);
        bid.extend(faults.clone());
        bid.push(Arg::U32(tuples.count as u32));
        bid.extend(to_slices.clone());
        emitter.launch(launch("bid", tuples.count, bid));

        let run = tuples.run / wide;
        let count = tuples.count * run;
        let mut scatter = vec![emitter.read(2), emitter.read(1), bids, emitter.write(0)];
        scatter.extend(faults);
        scatter.push(Arg::U32(count as u32));
        scatter.extend(Divisor::args(run));
        scatter.extend(to_slices);
        emitter.launch(launch("scatter_nd", count, scatter));
    }

    fn emit_reducing(emitter: &mut Emitter<'_>, tuples: &Tuples, reduction: Reduction) {
        let dtype = emitter.input_type(0).dtype;
        let mut args = vec![emitter.read(2), emitter.read(1), emitter.write(0)];
        args.extend(tuples.faults(emitter));
        args.extend([Arg::U32(tuples.run as u32), Arg::I32(tuples.count as i32)]);
        args.extend(tuples.args(1));
        args.push(reduction.arg());
        emitter.launch(Launch {
            source: reduction::SOURCE,
            kernel: "reduce_slices",
            options: vec![type_option(dtype), index_option(DType::I64)],
            args,
            global: [tuples.run, 1, 1],
            local: GROUP,
        });
    }
}

impl Operator for ScatterNd {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let (data, indices, updates) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        let tuples = Tuples::new(data.ty, indices.ty, 0)?;
        let outer = &indices.shape()[..indices.shape().len() - 1];
        let fits = updates.shape()[..] == *[outer, &data.shape()[tuples.depth..]].concat();
        if !fits || updates.dtype() != data.dtype() {
            return Err(format!(
                "updates {} at indices {} of {}",
                updates.ty, indices.ty, data.ty
            ));
        }
        Ok(vec![data.ty.clone()])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        self.infer(&operands(inputs))?;
        let (data, indices) = (required_tensor(inputs, 0)?, required_tensor(inputs, 1)?);
        let updates = required_tensor(inputs, 2)?;
        let tuples = Tuples::new(data.ty(), indices.ty(), 0)?;
        let starts = tuples.starts(indices)?;
        let positions: Vec<usize> = starts
            .into_iter()
            .flat_map(|start| start..start + tuples.run)
            .collect();
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
        let data = emitter.input_type(0).clone();
        let tuples = Tuples::new(&data, emitter.input_type(1), 0)?;
        index(data.elements())?;
        index(emitter.input_type(1).elements())?;
        index(emitter.input_type(2).elements())?;
        if tuples.count == 0 {
            emitter.alias(0, 0);
            return Ok(());
        }
        emitter.copy((0, 0), (0, 0), data.bytes());
        match self.reduction {
            None => Self::emit_replacing(emitter, &tuples),
            Some(reduction) => Self::emit_reducing(emitter, &tuples, reduction),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::tensor::{DType, HostTensor};
    use crate::testing::{Case, tensor};

    fn case(data: HostTensor, indices: HostTensor, updates: HostTensor) -> Case {
        Case::new("ScatterND", 18)
            .input(data)
            .input(indices)
            .input(updates)
    }

    #[test]
    fn the_specification_s_examples_hold() {
        let data = HostTensor::i32([8], &[1, 2, 3, 4, 5, 6, 7, 8]);
        let updates = HostTensor::i32([4], &[9, 10, 11, 12]);
        let scattered = case(data, HostTensor::i64([4, 1], &[4, 3, 1, 7]), updates).check();
        assert_eq!(scattered, [HostTensor::i32([8], &[1, 11, 3, 10, 9, 6, 7, 12])]);
        let data = HostTensor::i32([3, 2], &[1, 2, 3, 4, 5, 6]);
        let updates = HostTensor::i32([2, 2], &[7, 8, 9, 10]);
        let rows = case(data, HostTensor::i64([2, 1], &[0, -1]), updates).check();
        assert_eq!(rows, [HostTensor::i32([3, 2], &[7, 8, 3, 4, 9, 10])]);
    }

    #[test]
    fn the_last_of_several_updates_counts() {
        let data = HostTensor::i32([2, 4], &[0; 8]);
        let updates = HostTensor::i32([3000, 4], &(0..12_000).collect::<Vec<_>>());
        let raced = case(data, HostTensor::i64([3000, 1], &vec![1; 3000]), updates).check();
        let last = [0, 0, 0, 0, 11_996, 11_997, 11_998, 11_999];
        assert_eq!(raced, [HostTensor::i32([2, 4], &last)]);
    }

    #[test]
    fn every_depth_and_element_size_is_scattered() {
        for dtype in EVERY_SIZE {
            let data = numbered(dtype, &[3, 4, 8]);
            let updates = |shape: &[usize]| numbered(dtype, shape);
            let indices = |shape: [usize; 2], values: &[i64]| HostTensor::i64(shape, values);
            case(data.clone(), indices([2, 1], &[2, -3]), updates(&[2, 4, 8])).check();
            case(
                data.clone(),
                indices([3, 2], &[2, -4, 0, 3, 2, 0]),
                updates(&[3, 8]),
            )
            .check();
            case(
                data.clone(),
                indices([2, 3], &[-1, 3, -8, 0, 0, 1]),
                updates(&[2]),
            )
            .check();
            case(data.clone(), indices([0, 1], &[]), updates(&[0, 4, 8])).check();
            let nested = HostTensor::i64([2, 2, 1], &[0, 1, 0, 2]);
            case(data, nested, updates(&[2, 2, 4, 8])).check();
            let eight = numbered(dtype, &[2, 1, 2, 1, 2, 1, 2, 3]);
            case(eight, indices([1, 8], &[1, 0, 1, 0, 1, 0, 1, -1]), updates(&[1])).check();
        }
    }

    #[test]
    fn reductions_combine_in_order() {
        for reduction in ["add", "mul", "max", "min"] {
            let reducing = |case: Case| {
                let reduction = Attribute::String(reduction.to_owned());
                case.attr("reduction", reduction).within(0.0, 1e-6).check()
            };
            let indices = HostTensor::i64([4, 1], &[2, 0, -1, 2]);
            reducing(case(tensor(&[3, 70], 1), indices.clone(), tensor(&[4, 70], 2)));
            let integers = |shape: &[usize]| numbered(DType::I64, shape);
            reducing(case(integers(&[3, 2]), indices, integers(&[4, 2])));
        }
    }

    #[test]
    fn mistakes_are_refused() {
        let refusal = |indices: HostTensor, updates: &[usize]| {
            let updates = numbered(DType::F32, updates);
            case(numbered(DType::F32, &[3, 5]), indices, updates)
                .refusal()
                .to_string()
        };
        let beyond = refusal(HostTensor::i64([1, 2], &[0, 5]), &[1]);
        assert!(
            beyond.contains("index 5 is out of range for an axis of length 5"),
            "{beyond}"
        );
        let uneven = refusal(HostTensor::i64([1, 1], &[0]), &[1, 4]);
        assert!(
            uneven.contains("updates float32[1, 4] at indices int64[1, 1] of float32[3, 5]"),
            "{uneven}"
        );
    }
}
