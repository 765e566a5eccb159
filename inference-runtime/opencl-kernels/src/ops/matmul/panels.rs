//! Launches `pack_panels` and `multiply_panels`: products on CPU runtimes.

use super::batch::Batch;
use super::product::{KERNEL_BATCH_AXES, Launching, Matrix, Product, int, int4};
use super::slices::Slices;
use crate::ops::operator::Reason;
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor};

const SOURCE: Source = Source {
    name: "multiply_panels.cl",
    text: concat!(
        "#define REAL float16\n#define LANES 16\n#define LOAD vload16\n#define STORE vstore16\n",
        include_str!("epilogue.cl"),
        include_str!("product.cl"),
        include_str!("block.cl"),
        include_str!("panels.cl"),
    ),
};

const PACK: Source = Source {
    name: "pack_panels.cl",
    text: concat!(
        "#define REAL float16\n#define LANES 16\n#define LOAD vload16\n#define STORE vstore16\n",
        include_str!("epilogue.cl"),
        include_str!("product.cl"),
        include_str!("block.cl"),
        include_str!("pack.cl"),
    ),
};

/// Rows per work-item.
pub(in crate::ops) const ROWS: usize = 8;
/// Columns per work-item.
pub(in crate::ops) const COLUMNS: usize = 32;

const IN_PLACE: i32 = 4;
const COLUMNS_FIRST: i32 = 8;

/// Up to this many rows, packing B in every run costs more than it saves (measured on PoCL, AVX-512).
const FEW_ROWS: usize = 256;

/// Where the kernel finds B.
struct Right {
    buffer: Arg,
    /// Strides along the product's batch axes.
    batch: Vec<usize>,
    row: usize,
    flags: i32,
}

pub(super) fn emit(product: &Product, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
    let right = right(product, emitter)?;
    // Work-items next to each other run one after the other on a core: let them share the larger operand's reads.
    // In place, walking along a row of panels would touch a page per k.
    let columns_first = product.m > product.n && right.flags & IN_PLACE == 0;
    let order = if columns_first { COLUMNS_FIRST } else { 0 };
    let (row_blocks, panels) = (product.m.div_ceil(ROWS), product.n.div_ceil(COLUMNS));
    let product = Product {
        b: Matrix {
            batch: right.batch,
            ..product.b.clone()
        },
        ..product.clone()
    };
    let (offsets, batch) = product.merged_batch().split(KERNEL_BATCH_AXES);
    let per_launch: usize = batch.extents.iter().product();
    for (i, [a, b, bias, residual]) in offsets.into_iter().enumerate() {
        let launching = Launching {
            left: emitter.read(product.a.input),
            right: right.buffer.clone(),
            target: emitter.write(0),
            right_strides: (right.row, 1),
            flags: order | right.flags,
            batch: &batch,
            base: [a, b, i * per_launch * product.m * product.n, bias, residual],
            slices: Slices::NONE,
        };
        let args = product.arguments(emitter, launching)?;
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "multiply_panels",
            options: vec![product.activation.option()],
            args,
            global: if columns_first {
                [panels, row_blocks, per_launch]
            } else {
                [row_blocks, panels, per_launch]
            },
            local: [1, 1, 1],
        });
    }
    Ok(())
}

/// Decides between B as it lies, B packed once, and B packed in every run.
fn right(product: &Product, emitter: &mut Emitter<'_>) -> Result<Right, Reason> {
    let Product { n, k, b, .. } = product;
    let constant = emitter
        .input(b.input)
        .and_then(|operand| operand.known.cloned())
        .filter(|_| product.b_is_constant);
    let rows_are_contiguous = b.column == 1 && *n >= COLUMNS;
    if *k == 0 || (rows_are_contiguous && product.m <= FEW_ROWS && constant.is_none()) {
        return Ok(Right {
            buffer: emitter.read(b.input),
            batch: b.batch.clone(),
            row: b.row,
            // With k = 0 nothing is read, and any N will do for a packed layout.
            flags: if *k == 0 { 0 } else { IN_PLACE },
        });
    }
    // Pack each distinct matrix once, however often the batch repeats it.
    let own: Vec<usize> = product
        .batch
        .iter()
        .zip(&b.batch)
        .map(|(&extent, &stride)| if stride == 0 { 1 } else { extent })
        .collect();
    let matrices: usize = own.iter().product();
    let packed_size = n.div_ceil(COLUMNS) * COLUMNS * k;
    let mut batch = super::batch::dense_strides(&own);
    for (stride, &source) in batch.iter_mut().zip(&b.batch) {
        *stride = if source == 0 { 0 } else { *stride * packed_size };
    }
    let source = Batch {
        extents: own,
        strides: [b.batch.clone()],
    };
    let buffer = match constant.filter(|tensor| tensor.dtype() == DType::F32) {
        // Converted inside: the next plan finds the panels on the device and must not touch every weight again.
        Some(tensor) => emitter.constant("panels", || {
            let values = tensor.to_f32().unwrap_or_default();
            HostTensor::f32([matrices * packed_size], &pack(&values, product, &source))
        }),
        None => pack_on_device(product, &source.merged(), matrices * packed_size, emitter)?,
    };
    Ok(Right {
        buffer,
        batch,
        row: COLUMNS,
        flags: 0,
    })
}

fn pack(values: &[f32], product: &Product, source: &Batch<1>) -> Vec<f32> {
    let Product { n, k, b, .. } = product;
    let panels = n.div_ceil(COLUMNS);
    let mut packed = Vec::with_capacity(source.extents.iter().product::<usize>() * panels * k * COLUMNS);
    for [base] in source.split(0).0 {
        for panel in 0..panels {
            for row in 0..*k {
                packed.extend((panel * COLUMNS..(panel + 1) * COLUMNS).map(|column| {
                    if column < *n {
                        values[base + row * b.row + column * b.column]
                    } else {
                        0.0
                    }
                }));
            }
        }
    }
    packed
}

fn pack_on_device(
    product: &Product,
    source: &Batch<1>,
    elements: usize,
    emitter: &mut Emitter<'_>,
) -> Result<Arg, Reason> {
    let Product { n, k, b, .. } = product;
    let packed = emitter.scratch(elements * size_of::<f32>());
    let (offsets, batch) = source.split(KERNEL_BATCH_AXES);
    let [only] = offsets.as_slice() else {
        // Repeating axes have extent 1 here, so what is left of a dense tensor's batch is a single axis.
        return Err("the right operand's batch axes are not evenly spaced".to_owned());
    };
    let read = emitter.read(b.input);
    emitter.launch(Launch {
        source: PACK,
        kernel: "pack_panels",
        options: Vec::new(),
        args: vec![
            read,
            packed.clone(),
            Arg::Int4([int(*k)?, int(*n)?, int(b.row)?, int(b.column)?]),
            int4(&batch.extents, 1)?,
            int4(&batch.strides[0], 0)?,
            Arg::I32(int(only[0])?),
        ],
        global: [
            n.div_ceil(COLUMNS),
            k.div_ceil(16),
            batch.extents.iter().product(),
        ],
        local: [1, 1, 1],
    });
    Ok(packed)
}
