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
