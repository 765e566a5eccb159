//! Launches `convolve_implicit`: convolutions over one or two spatial axes on GPUs.

use super::launch::{ConvArguments, int4};
use super::operator::{BIAS, Conv, Geometry, RESIDUAL, W, X};
use super::window::three;
use crate::ops::matmul::Slices;
use crate::ops::operator::Reason;
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::HostTensor;

const SOURCE: Source = Source {
    name: "convolve_implicit.cl",
    text: concat!(
        "#define REAL float4\n#define LANES 4\n#define LOAD vload4\n#define STORE vstore4\n",
        include_str!("../matmul/epilogue.cl"),
        include_str!("implicit.cl"),
    ),
};

const REPACK: Source = Source {
    name: "repack_weights.cl",
    text: include_str!("repack.cl"),
};

/// Rows and columns per work-group.
const TILE: usize = 64;

/// Input channels per step of the kernel.
const STEP: usize = 16;

/// Channels are taken 16 at a time and rows 64: with few of either, the direct kernels waste less.
pub(super) fn suits(geometry: &Geometry) -> bool {
    geometry.axes.len() <= 2 && geometry.depth >= 12 && geometry.rows >= 16
}

pub(super) fn emit(conv: &Conv, geometry: &Geometry, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
    let [_, h, w] = three(&geometry.axes);
    let x = emitter.read(X);
    let weights = repacked(conv, geometry, emitter)?;
    let ConvArguments {
        y,
        bias,
        residual,
        flags,
        activation: [act_p, act_q],
    } = ConvArguments::new(conv, &x, emitter);
    let columns = geometry.images * geometry.pixels();
    let tiles = columns.div_ceil(TILE) * geometry.rows.div_ceil(TILE) * geometry.groups;
    let steps = geometry.taps() * geometry.depth.div_ceil(STEP);
    let slices = Slices::choose(emitter.device(), tiles, steps);
    // As a product, the same output has a row per channel and a column per pixel.
    let product = conv.product(
        geometry,
        emitter.input(BIAS).is_some(),
        emitter.input(RESIDUAL).is_some(),
    );
    let partial = slices.scratch(&product, emitter);
    let y = partial.clone().unwrap_or(y);
    let args = vec![
        x,
        weights,
        y,
        bias,
        residual,
        int4(geometry.groups, geometry.rows, geometry.depth, flags)?,
        int4(h.input, w.input, 0, geometry.images)?,
        int4(h.output, w.output, geometry.pixels(), columns)?,
        int4(h.kernel, w.kernel, 0, geometry.taps())?,
        int4(h.stride, w.stride, h.dilation, w.dilation)?,
        int4(h.before, w.before, slices.count, slices.steps)?,
        Arg::F32(act_p),
        Arg::F32(act_q),
    ];
    emitter.launch(Launch {
        source: SOURCE,
        kernel: "convolve_implicit",
        options: vec![conv.activation.option()],
        args,
        global: [
            columns.div_ceil(TILE) * 256,
            geometry.rows.div_ceil(TILE),
            geometry.groups * slices.count,
        ],
        local: [256, 1, 1],
    });
    match partial {
        Some(partial) => slices.join(&product, partial, emitter),
        None => Ok(()),
    }
}

/// The weights as `[group][tap][in][out]`, padded with zeros to whole steps of input channels and whole vectors of output
/// channels: once where they are constant, in every run otherwise.
fn repacked(conv: &Conv, geometry: &Geometry, emitter: &mut Emitter<'_>) -> Result<Arg, Reason> {
    let Geometry {
        groups, rows, depth, ..
    } = *geometry;
    let taps = geometry.taps();
    let (outs, ins) = (rows.next_multiple_of(4), depth.next_multiple_of(STEP));
    let elements = groups * taps * ins * outs;
    let constant = emitter
        .input(W)
        .and_then(|operand| operand.known)
        .filter(|_| conv.weights_are_constant)
        .and_then(HostTensor::to_f32);
    if let Some(values) = constant {
        return Ok(emitter.constant("tap-major", || {
            let mut repacked = vec![0.0; elements];
            for group in 0..groups {
                for tap in 0..taps {
                    for c in 0..depth {
                        let line = ((group * taps + tap) * ins + c) * outs;
                        for row in 0..rows {
                            repacked[line + row] = values[((group * rows + row) * depth + c) * taps + tap];
                        }
                    }
                }
            }
            HostTensor::f32([elements], &repacked)
        }));
    }
    let target = emitter.scratch(elements * size_of::<f32>());
    let weights = emitter.read(W);
    emitter.launch(Launch {
        source: REPACK,
        kernel: "repack_weights",
        options: Vec::new(),
        args: vec![weights, target.clone(), int4(groups, rows, depth, taps)?],
        global: [outs.next_multiple_of(64), ins, groups * taps],
        local: [64, 1, 1],
    });
    Ok(target)
}
