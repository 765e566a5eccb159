//! Launches `place_phases` and `convolve_taps`: convolutions on CPU runtimes.

use super::launch::{ConvArguments, int4, int4_of};
use super::operator::{Conv, Geometry, W, X};
use super::window::{Axis, three};
use crate::ops::operator::Reason;
use crate::plan::{Arg, Emitter, Launch, Source};

const SOURCE: Source = Source {
    name: "convolve_taps.cl",
    text: concat!(
        "#define REAL float16\n#define LANES 16\n#define LOAD vload16\n#define STORE vstore16\n",
        include_str!("../matmul/epilogue.cl"),
        include_str!("../matmul/block.cl"),
        include_str!("taps.cl"),
    ),
};

const PLACE: Source = Source {
    name: "place_phases.cl",
    text: include_str!("phases.cl"),
};

/// `MOST_TAPS` in `taps.cl`.
const MOST_TAPS: usize = 128;
/// `BLOCK_ROWS` and `BLOCK_COLUMNS` in `block.cl`.
const BLOCK: (usize, usize) = (8, 32);

/// Whether these kernels can compute it.
pub(super) fn suits(geometry: &Geometry) -> bool {
    geometry.taps() <= MOST_TAPS
}

/// Phases of the stride that some tap has, and places per phase, along one axis.
fn placed(axis: &Axis) -> (usize, usize) {
    let phases = (0..axis.kernel).map(|t| t * axis.dilation % axis.stride).max();
    let places = axis.output + (axis.kernel - 1) * axis.dilation / axis.stride;
    (phases.unwrap_or(0) + 1, places)
}

pub(super) fn emit(conv: &Conv, geometry: &Geometry, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
    let axes = three(&geometry.axes);
    let phases = axes.map(|axis| placed(&axis).0);
    let grid = axes.map(|axis| placed(&axis).1);
    let planes = geometry.images * geometry.groups * geometry.depth;
    let per_plane = phases.iter().chain(&grid).product::<usize>();
    // Outputs of one channel lie on these places of the grid.
    let [d, h, w] = axes.map(|axis| axis.output);
    let places = ((d - 1) * grid[1] + h - 1) * grid[2] + w;
    let depthwise = geometry.depth == 1;

    // The last block reads whole vectors; what lies behind the last plane is not used.
    let slack = BLOCK.1;
    let placed = emitter.scratch((planes * per_plane + slack) * size_of::<f32>());
    let x = emitter.read(X);
    if planes > 0 {
        emitter.launch(Launch {
            source: PLACE,
            kernel: "place_phases",
            options: Vec::new(),
            args: vec![
                x,
                placed.clone(),
                int4_of(axes.map(|axis| axis.input), planes)?,
                int4_of(grid, 0)?,
                int4_of(phases, 0)?,
                int4_of(axes.map(|axis| axis.stride), 1)?,
                int4_of(axes.map(|axis| axis.before), 0)?,
            ],
            global: [grid[0] * grid[1], phases.iter().product(), planes],
            local: [1, 1, 1],
        });
    }
    let weights = emitter.read(W);
    let ConvArguments {
        y,
        bias,
        residual,
        flags,
        activation: [act_p, act_q],
    } = ConvArguments::new(conv, &placed, emitter);
    let args = vec![
        placed,
        weights,
        y,
        bias,
        residual,
        int4(geometry.groups, geometry.rows, geometry.depth, flags)?,
        int4_of(axes.map(|axis| axis.kernel), geometry.taps())?,
        int4_of(axes.map(|axis| axis.stride), 1)?,
        int4_of(axes.map(|axis| axis.dilation), 1)?,
        int4_of(phases, 0)?,
        int4_of(grid, places)?,
        int4_of([d, h, w], 0)?,
        Arg::F32(act_p),
        Arg::F32(act_q),
    ];
    let (kernel, global) = if depthwise {
        let channels = geometry.groups * geometry.rows;
        ("convolve_taps_depthwise", [channels, geometry.images, 1])
    } else {
        let blocks = geometry.rows.div_ceil(BLOCK.0);
        let tiles = places.div_ceil(BLOCK.1);
        (
            "convolve_taps",
            [blocks, tiles, geometry.images * geometry.groups],
        )
    };
    emitter.launch(Launch {
        source: SOURCE,
        kernel,
        options: vec![conv.activation.option()],
        args,
        global,
        local: [1, 1, 1],
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tap_of_every_output_lies_on_the_grid() {
        for stride in 1..5 {
            for dilation in 1..4 {
                for kernel in 1..5 {
                    let axis = Axis {
                        output: 6,
                        kernel,
                        stride,
                        dilation,
                        ..Axis::TRIVIAL
                    };
                    let (phases, places) = placed(&axis);
                    for t in 0..kernel {
                        assert!(t * dilation % stride < phases);
                        assert!(axis.output - 1 + t * dilation / stride < places);
                    }
                }
            }
        }
    }
}
