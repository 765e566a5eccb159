//! Launches `convolve_direct` and `convolve_single`: convolutions of any shape.

use super::launch::{ConvArguments, int4, int4_of};
use super::operator::{Conv, Geometry, W, X};
use super::window::three;
use crate::ops::operator::Reason;
use crate::plan::{Arg, Emitter, Launch, Source};

const SOURCE: Source = Source {
    name: "convolve_direct.cl",
    text: concat!(
        "#define REAL float4\n#define LANES 4\n#define LOAD vload4\n#define STORE vstore4\n",
        include_str!("../matmul/epilogue.cl"),
        include_str!("direct.cl"),
    ),
};

/// Output channels per work-item of `convolve_direct`.
const ROWS: usize = 8;

pub(super) fn emit(conv: &Conv, geometry: &Geometry, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
    let axes = three(&geometry.axes);
    let x = emitter.read(X);
    let weights = emitter.read(W);
    let ConvArguments {
        y,
        bias,
        residual,
        flags,
        activation: [act_p, act_q],
    } = ConvArguments::new(conv, &x, emitter);
    let args = vec![
        x,
        weights,
        y,
        bias,
        residual,
        int4(geometry.groups, geometry.rows, geometry.depth, flags)?,
        int4_of(axes.map(|axis| axis.input), 0)?,
        int4_of(axes.map(|axis| axis.output), 0)?,
        int4_of(axes.map(|axis| axis.kernel), geometry.taps())?,
        int4_of(axes.map(|axis| axis.stride), 1)?,
        int4_of(axes.map(|axis| axis.dilation), 1)?,
        int4_of(axes.map(|axis| axis.before), 0)?,
        Arg::F32(act_p),
        Arg::F32(act_q),
    ];
    // With few rows most of a block would be computed for nothing.
    let (kernel, blocks) = if geometry.rows < ROWS / 2 {
        ("convolve_single", geometry.rows)
    } else {
        ("convolve_direct", geometry.rows.div_ceil(ROWS))
    };
    emitter.launch(Launch {
        source: SOURCE,
        kernel,
        options: vec![conv.activation.option()],
        args,
        global: [
            geometry.pixels().next_multiple_of(64),
            blocks,
            geometry.images * geometry.groups,
        ],
        local: [64, 1, 1],
    });
    Ok(())
}
