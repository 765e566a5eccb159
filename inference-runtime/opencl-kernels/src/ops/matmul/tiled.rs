//! Launches `multiply_tiled`: products with more than a few rows on GPUs.

use super::product::{KERNEL_BATCH_AXES, Product};
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

pub(super) fn emit(product: &Product, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
    let (offsets, batch) = product.merged_batch().split(KERNEL_BATCH_AXES);
    let per_launch: usize = batch.extents.iter().product();
    for (i, [a, b, bias, residual]) in offsets.into_iter().enumerate() {
        let c = i * per_launch * product.m * product.n;
        let right = emitter.read(product.b.input);
        let strides = (product.b.row, product.b.column);
        let args = product.arguments(emitter, right, strides, 0, &batch, [a, b, c, bias, residual])?;
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "multiply_tiled",
            options: vec![product.activation.option()],
            args,
            global: [
                product.n.div_ceil(TILE) * 256,
                product.m.div_ceil(TILE),
                per_launch,
            ],
            local: [256, 1, 1],
        });
    }
    Ok(())
}
