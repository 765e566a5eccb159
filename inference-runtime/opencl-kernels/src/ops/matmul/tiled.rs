//! Launches `multiply_tiled`: products with more than a few rows on GPUs.

use super::product::{KERNEL_BATCH_AXES, Launching, Product};
use super::slices::Slices;
use crate::ops::operator::Reason;
use crate::plan::{Emitter, Launch, Source};

const SOURCE: Source = Source {
    name: "multiply_tiled.cl",
    text: concat!(
        "#define REAL float4\n#define LANES 4\n#define LOAD vload4\n#define STORE vstore4\n",
        include_str!("epilogue.cl"),
        include_str!("product.cl"),
        include_str!("tiled.cl"),
    ),
};

/// Rows and columns of C per work-group.
const TILE: usize = 64;

/// k per step of the kernel.
const STEP: usize = 16;

pub(super) fn emit(product: &Product, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
    let (offsets, batch) = product.merged_batch().split(KERNEL_BATCH_AXES);
    let per_launch: usize = batch.extents.iter().product();
    let tiles = product.m.div_ceil(TILE) * product.n.div_ceil(TILE);
    let steps = product.k.div_ceil(STEP);
    let slices = match offsets.len() {
        1 => Slices::choose(emitter.device(), tiles * per_launch, steps),
        _ => Slices { count: 1, steps },
    };
    let partial = slices.scratch(product, emitter);
    for (i, [a, b, bias, residual]) in offsets.into_iter().enumerate() {
        let c = i * per_launch * product.m * product.n;
        let target = partial.clone().unwrap_or_else(|| emitter.write(0));
        let launching = Launching {
            left: emitter.read(product.a.input),
            right: emitter.read(product.b.input),
            target,
            right_strides: (product.b.row, product.b.column),
            flags: 0,
            batch: &batch,
            base: [a, b, c, bias, residual],
            slices,
        };
        let args = product.arguments(emitter, launching)?;
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "multiply_tiled",
            options: vec![product.activation.option()],
            args,
            global: [
                product.n.div_ceil(TILE) * 256,
                product.m.div_ceil(TILE),
                per_launch * slices.count,
            ],
            local: [256, 1, 1],
        });
    }
    match partial {
        Some(partial) => slices.join(product, partial, emitter),
        None => Ok(()),
    }
}
