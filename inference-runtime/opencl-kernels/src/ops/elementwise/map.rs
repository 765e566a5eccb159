//! Launching an elementwise program over broadcast operands: which of the kernels of `broadcast.cl`, with which
//! arguments.

use super::axes::{divisor_args, int, stride_arg};
use super::broadcast::Layout;
use crate::ops::Reason;
use crate::plan::{Arg, Emitter, Launch, Source};

/// Elements per work-item of `map_flat` and `map_rows`.
const LANES: usize = 4;

/// Innermost axes shorter than this leave most of a wave idle in `map_rows`.
const SHORTEST_ROW: usize = 32;

/// Work-group size of all elementwise kernels: one wave of the GPUs we care for.
pub(in crate::ops) const GROUP: [usize; 3] = [64, 1, 1];

/// An elementwise program with its parameters.
#[derive(Debug, Clone)]
pub(in crate::ops) struct Map {
    /// A text that defines `apply` and ends with `broadcast.cl`.
    pub(in crate::ops) source: Source,
    /// What selects the operation and its types.
    pub(in crate::ops) options: Vec<String>,
    /// `p` and `q` of `apply`.
    pub(in crate::ops) parameters: [f32; 2],
}

impl Map {
    /// Records the launch that fills a dense `output` of this shape from operands that broadcast to it.
    pub(in crate::ops) fn emit(
        self,
        emitter: &mut Emitter<'_>,
        (output, shape): (Arg, &[usize]),
        operands: [(Arg, &[usize]); 3],
    ) -> Result<(), Reason> {
        let layout = Layout::new(shape, operands.each_ref().map(|(_, shape)| *shape));
        let mut args = vec![output];
        args.extend(operands.map(|(buffer, _)| buffer));
        let (kernel, global) = if layout.rank() == 1 {
            args.extend(flat_args(&layout)?);
            ("map_flat", [layout.extents[0].div_ceil(LANES), 1, 1])
        } else if layout.rank() <= 3 && layout.extents[0] >= SHORTEST_ROW {
            args.extend(row_args(&layout)?);
            let extent = |axis: usize| layout.extents.get(axis).copied().unwrap_or(1);
            ("map_rows", [extent(0).div_ceil(LANES), extent(1), extent(2)])
        } else {
            args.extend(any_args(&layout)?);
            ("map_any", [layout.extents.iter().product(), 1, 1])
        };
        args.extend(self.parameters.map(Arg::F32));
        emitter.launch(Launch {
            source: self.source,
            kernel,
            options: self.options,
            args,
            global,
            local: GROUP,
        });
        Ok(())
    }
}

/// `uint count, int4 steps`
fn flat_args(layout: &Layout<3>) -> Result<[Arg; 2], Reason> {
    let steps = layout.strides[0];
    Ok([
        Arg::U32(int(layout.extents[0])? as u32),
        Arg::Int4([int(steps[0])?, int(steps[1])?, int(steps[2])?, 0]),
    ])
}

/// `int4 extents, int4 first, int4 second, int4 third`
fn row_args(layout: &Layout<3>) -> Result<[Arg; 4], Reason> {
    let lanes = |values: &mut dyn Iterator<Item = usize>, fill: i32| {
        let mut lanes = [fill; 4];
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane = int(value)?;
        }
        Ok::<_, Reason>(Arg::Int4(lanes))
    };
    Ok([
        lanes(&mut layout.extents.iter().copied(), 1)?,
        lanes(&mut layout.strides_of(0), 0)?,
        lanes(&mut layout.strides_of(1), 0)?,
        lanes(&mut layout.strides_of(2), 0)?,
    ])
}

/// `uint count, int inner, int8 extents, int8 magics, int8 shifts, int8 first, int8 second, int8 third`
fn any_args(layout: &Layout<3>) -> Result<Vec<Arg>, Reason> {
    let mut args = vec![Arg::U32(int(layout.extents.iter().product())? as u32)];
    args.extend(divisor_args(&layout.extents)?);
    for operand in 0..3 {
        args.push(stride_arg(&layout.strides_of(operand).collect::<Vec<_>>())?);
    }
    Ok(args)
}
