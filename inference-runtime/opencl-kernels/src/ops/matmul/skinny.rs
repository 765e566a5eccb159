//! Launches `multiply_skinny`: products with few rows on GPUs.

use super::product::{KERNEL_BATCH_AXES, Launching, Product};
use super::slices::Slices;
use crate::ops::operator::Reason;
use crate::plan::{Emitter, Launch, Source};

const SOURCE: Source = Source {
    name: "multiply_skinny.cl",
    text: concat!(
        "#define REAL float4\n#define LANES 4\n#define LOAD vload4\n#define STORE vstore4\n",
        include_str!("epilogue.cl"),
        include_str!("product.cl"),
        include_str!("skinny.cl"),
    ),
};

/// With more rows the tiled kernel wastes less than this one re-reads.
pub(super) const MOST_ROWS: usize = 8;

/// Columns of C per work-group.
const COLUMNS: usize = 16;

pub(super) fn emit(product: &Product, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
    let rows = if product.m == 1 { 1 } else { MOST_ROWS };
    let (offsets, batch) = product.merged_batch().split(KERNEL_BATCH_AXES);
    let per_launch: usize = batch.extents.iter().product();
    for (i, [a, b, bias, residual]) in offsets.into_iter().enumerate() {
        let c = i * per_launch * product.m * product.n;
        let launching = Launching {
            left: emitter.read(product.a.input),
            right: emitter.read(product.b.input),
            target: emitter.write(0),
            right_strides: (product.b.row, product.b.column),
            flags: 0,
            batch: &batch,
            base: [a, b, c, bias, residual],
            slices: Slices::NONE,
        };
        let args = product.arguments(emitter, launching)?;
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "multiply_skinny",
            options: vec![product.activation.option(), format!("-DROWS={rows}")],
            args,
            global: [
                product.n.div_ceil(COLUMNS) * 256,
                product.m.div_ceil(rows),
                per_launch,
            ],
            local: [256, 1, 1],
        });
    }
    Ok(())
}
