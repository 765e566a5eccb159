//! `GatherND`: tuples of indices name slices.

use super::position::{checked, integers};
use crate::ops::movement::arguments::{only_attributes, operands, required, required_tensor};
use crate::ops::movement::divisor::Divisor;
use crate::ops::movement::elements::{Elements, strides};
use crate::ops::movement::strided::{GROUP, element_option, index, widening};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, MAX_RANK, TensorType};

const SOURCE: Source = Source {
    name: "gather_nd.cl",
    text: include_str!("gather_nd.cl"),
};

/// ONNX operator spec, `GatherND-11` to `-13`.
#[derive(Debug)]
struct GatherNd {
    /// Leading axes that data and indices share.
    batch_axes: usize,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let attributes: &[&str] = if view.node().since_version < 12 {
        &[]
    } else {
        &["batch_dims"]
    };
    only_attributes(view, attributes)?;
    view.require_dtype(1, &[DType::I64])?;
    let least = view.rank(0)?.min(view.rank(1)?);
    let given = view.int("batch_dims", 0);
    let batch_axes = usize::try_from(given)
        .ok()
        .filter(|axes| *axes < least)
        .ok_or_else(|| format!("batch_dims {given} for inputs of {least} axes"))?;
    Ok(Box::new(GatherNd { batch_axes }))
}

/// Tuples of indices into the axes of a tensor after its batch axes.
#[derive(Debug)]
pub(super) struct Tuples {
    /// Indices in one tuple.
    pub(super) depth: usize,
    /// Tuples in one batch.
    pub(super) in_batch: usize,
    /// All tuples.
    pub(super) count: usize,
    /// Extents that the tuples index.
    pub(super) lengths: Vec<usize>,
    /// Distances between neighbours on these axes, in elements.
    pub(super) strides: Vec<usize>,
    /// Elements in the slice that a tuple names.
    pub(super) run: usize,
    /// Elements in one batch of the data.
    pub(super) batch_stride: usize,
}

impl Tuples {
    /// Reads the shapes of data and indices, which share their first `batch_axes` axes.
    pub(super) fn new(data: &TensorType, indices: &TensorType, batch_axes: usize) -> Result<Self, Reason> {
        let refuse = || {
            Err(format!(
                "indices {indices} into {data} with {batch_axes} batch axes"
            ))
        };
        let Some((&depth, outer)) = indices.shape.split_last() else {
            return refuse();
        };
        let end = batch_axes + depth;
        if depth == 0 || end > data.rank() || outer.get(..batch_axes) != data.shape.get(..batch_axes) {
            return refuse();
        }
        let lengths = data.shape[batch_axes..end].to_vec();
        let count = outer.iter().product();
        if count > 0 && lengths.contains(&0) {
            return refuse();
        }
        Ok(Self {
            depth,
            in_batch: outer[batch_axes..].iter().product(),
            count,
            lengths,
            strides: strides(&data.shape)[batch_axes..end].to_vec(),
            run: data.shape[end..].iter().product(),
            batch_stride: data.shape[batch_axes..].iter().product(),
        })
    }

    /// Where the slice of each tuple begins in the data.
    pub(super) fn starts(&self, indices: &HostTensor) -> Result<Vec<usize>, Reason> {
        let start = |(t, tuple): (usize, &[i64])| {
            let batch = t / self.in_batch * self.batch_stride;
            let axes = self.lengths.iter().zip(&self.strides);
            tuple
                .iter()
                .zip(axes)
                .try_fold(batch, |at, (&index, (&length, stride))| {
                    Ok(at + checked(index, length)? * stride)
                })
        };
        integers(indices)?
            .chunks_exact(self.depth)
            .enumerate()
            .map(start)
            .collect()
    }

    /// `int depth, int8 lengths, int8 strides`, the strides in units of `wide` elements.
    pub(super) fn args(&self, wide: usize) -> [Arg; 3] {
        let lanes = |values: &[usize], divisor: usize| {
            let mut lanes = [0; MAX_RANK];
            for (lane, value) in lanes.iter_mut().zip(values) {
                *lane = (value / divisor) as i32;
            }
            Arg::Int8(lanes)
        };
        [
            Arg::I32(self.depth as i32),
            lanes(&self.lengths, 1),
            lanes(&self.strides, wide),
        ]
    }

    /// `__global long *fault, int code`, where an index at place `n` of its tuple is reported under `code + n`.
    pub(super) fn faults(&self, emitter: &mut Emitter<'_>) -> [Arg; 2] {
        let mut codes = self.lengths.iter().map(|&length| emitter.fault(length));
        let first = codes.next().expect("a tuple has at least one index");
        codes.for_each(drop);
        first
    }
}

impl Operator for GatherNd {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let (data, indices) = (required(inputs, 0)?, required(inputs, 1)?);
        let tuples = Tuples::new(data.ty, indices.ty, self.batch_axes)?;
        let (_, outer) = indices.shape().split_last().ok_or("indices without axes")?;
        let shape = [outer, &data.shape()[self.batch_axes + tuples.depth..]].concat();
        Ok(vec![TensorType::new(data.dtype(), shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let ty = self.infer(&operands(inputs))?.remove(0);
        let (data, indices) = (required_tensor(inputs, 0)?, required_tensor(inputs, 1)?);
        let tuples = Tuples::new(data.ty(), indices.ty(), self.batch_axes)?;
        let mut gathered = Elements::zeroed(ty);
        for (t, start) in tuples.starts(indices)?.into_iter().enumerate() {
            for e in 0..tuples.run {
                gathered.set(t * tuples.run + e, data, start + e);
            }
        }
        Ok(vec![gathered.finish()])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let data = emitter.input_type(0).clone();
        let tuples = Tuples::new(&data, emitter.input_type(1), self.batch_axes)?;
        let wide = widening([tuples.run], data.dtype.size());
        index(data.elements())?;
        index(emitter.input_type(1).elements())?;
        let count = index(tuples.count * tuples.run)? as usize / wide;
        let mut args = vec![emitter.read(0), emitter.read(1), emitter.write(0)];
        args.extend(tuples.faults(emitter));
        args.push(Arg::U32(count as u32));
        args.extend(Divisor::args(tuples.run / wide));
        args.extend(Divisor::args(tuples.in_batch));
        args.push(Arg::I32((tuples.batch_stride / wide) as i32));
        args.extend(tuples.args(wide));
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "gather_nd",
            options: vec![element_option(data.dtype.size() * wide)],
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

    fn case(data: HostTensor, shape: &[usize], indices: &[i64], batch_axes: usize) -> Case {
        let depth = shape[shape.len() - 1];
        let rank = shape.len() + data.shape().len() - depth - 1 - batch_axes;
        let dtype = data.dtype();
        Case::new("GatherND", 13)
            .attr("batch_dims", Attribute::Int(batch_axes as i64))
            .input(data)
            .input(HostTensor::i64(shape, indices))
            .output(dtype, rank)
    }

    #[test]
    fn the_specification_s_examples_hold() {
        let square = HostTensor::i32([2, 2], &[0, 1, 2, 3]);
        let cube = HostTensor::i32([2, 2, 2], &[0, 1, 2, 3, 4, 5, 6, 7]);
        let values = |case: Case| case.check().remove(0).to_i32().unwrap();
        assert_eq!(values(case(square.clone(), &[2, 2], &[0, 0, 1, 1], 0)), [0, 3]);
        assert_eq!(values(case(square, &[2, 1], &[1, 0], 0)), [2, 3, 0, 1]);
        assert_eq!(
            values(case(cube.clone(), &[2, 2], &[0, 1, 1, 0], 0)),
            [2, 3, 4, 5]
        );
        assert_eq!(
            values(case(cube.clone(), &[2, 1, 2], &[0, 1, 1, 0], 0)),
            [2, 3, 4, 5]
        );
        assert_eq!(values(case(cube, &[2, 1], &[1, 0], 1)), [2, 3, 4, 5]);
    }

    #[test]
    fn every_depth_and_element_size_is_gathered() {
        for dtype in EVERY_SIZE {
            let data = numbered(dtype, &[3, 4, 8]);
            case(data.clone(), &[4, 1], &[2, -3, 0, 1], 0).check();
            case(data.clone(), &[2, 2], &[2, -4, 0, 3], 0).check();
            case(data.clone(), &[1, 3], &[-1, 3, -8], 0).check();
            case(data.clone(), &[3, 2, 1], &[0, 3, 1, -1, 2, 2], 1).check();
            case(
                data.clone(),
                &[3, 4, 1],
                &[0, 1, 2, 3, 4, 5, 6, 7, -1, -2, -3, -4],
                2,
            )
            .check();
            case(data, &[0, 2], &[], 0).check();
            let eight = numbered(dtype, &[2, 1, 2, 1, 2, 1, 2, 3]);
            case(
                eight,
                &[2, 8],
                &[1, 0, 1, 0, 1, 0, 1, 2, 0, 0, -1, 0, -2, 0, 1, -3],
                0,
            )
            .check();
        }
    }

    #[test]
    fn each_index_of_a_tuple_has_its_own_range() {
        let refusal = |indices: &[i64]| {
            let case = case(numbered(DType::F32, &[3, 5]), &[1, 2], indices, 0);
            case.refusal().to_string()
        };
        assert!(refusal(&[3, 0]).contains("index 3 is out of range for an axis of length 3"));
        assert!(refusal(&[0, -6]).contains("index -6 is out of range for an axis of length 5"));
    }

    #[test]
    fn tuples_that_do_not_fit_are_refused() {
        let refusal = case(numbered(DType::F32, &[3, 5]), &[2, 2, 1], &[0; 4], 1)
            .refusal()
            .to_string();
        assert!(
            refusal.contains("indices int64[2, 2, 1] into float32[3, 5] with 1 batch axes"),
            "{refusal}"
        );
        let refusal = Case::new("GatherND", 13)
            .attr("batch_dims", Attribute::Int(1))
            .input(numbered(DType::F32, &[3]))
            .input(HostTensor::i64([3, 1], &[0; 3]))
            .refusal();
        assert!(
            refusal.to_string().contains("batch_dims 1 for inputs of 1 axes"),
            "{refusal}"
        );
    }
}
