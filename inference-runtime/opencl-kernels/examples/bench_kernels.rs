//! Prints how long each kernel takes for the layers of known networks on this machine's OpenCL device.
//!
//! ```sh
//! cargo run --release -p opencl-kernels --example bench_kernels [FILTER]
//! ```
//!
//! Each layer runs with the kernels for CPU runtimes and with those for GPUs; `<--` marks what this device gets. Times
//! are the device's own (profiling events), the best of several runs, packing and padding steps included. A network's
//! sum counts each layer as often as the network has it and leaves out what is not listed.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for people at a terminal"
)]

use std::sync::Arc;

use opencl_kernels::ir::{Attribute, Attributes, Graph};
use opencl_kernels::program::{CompileOptions, Program};
use opencl_kernels::runtime::{
    DeviceContext, DeviceKind, DeviceTraits, DiskCache, Executor, InputView, default_device,
};
use opencl_kernels::tensor::DType;
use opencl_kernels::testing::tensor;

/// Runs per measurement; the best counts.
const RUNS: usize = 5;

/// A layer and how often its network has it.
struct Layer {
    name: String,
    times: usize,
    operations: f64,
    graph: Graph,
    inputs: Vec<Vec<usize>>,
}

/// Channels in, height and width, channels out, kernel, stride, groups.
fn conv(times: usize, images: usize, [channels, side, out, kernel, stride, groups]: [usize; 6]) -> Layer {
    let mut graph = Graph::new("conv");
    let x = vec![images, channels, side, side];
    let input = graph.input("x", DType::F32, &x.iter().copied().map(Some).collect::<Vec<_>>());
    let w = graph.constant("w", tensor(&[out, channels / groups, kernel, kernel], 1));
    let b = graph.constant("b", tensor(&[out], 2));
    let pad = (kernel / 2) as i64;
    let attributes = Attributes::default()
        .with("group", Attribute::Int(groups as i64))
        .with("strides", Attribute::Ints(vec![stride as i64; 2]))
        .with("pads", Attribute::Ints(vec![pad; 4]));
    let y = graph.node(
        "Conv",
        11,
        attributes,
        &[input, w, b],
        (DType::F32, Some(vec![None; 4])),
    );
    graph.outputs.push(y);
    let pixels = (side.div_ceil(stride)).pow(2);
    Layer {
        name: format!(
            "Conv {images}x{channels}x{side}x{side} -> {out}, {kernel}x{kernel}{}{}",
            if stride > 1 { " /2" } else { "" },
            if groups > 1 { " depthwise" } else { "" }
        ),
        times,
        operations: 2.0 * (images * out * pixels * channels / groups * kernel * kernel) as f64,
        graph,
        inputs: vec![x],
    }
}

/// A times a constant B, or two inputs where `batch` is not 1.
fn matmul(times: usize, batch: usize, [m, k, n]: [usize; 3]) -> Layer {
    let mut graph = Graph::new("matmul");
    let dims = |shape: &[usize]| shape.iter().copied().map(Some).collect::<Vec<_>>();
    let a_shape = if batch == 1 { vec![m, k] } else { vec![batch, m, k] };
    let mut inputs = vec![a_shape.clone()];
    let a = graph.input("a", DType::F32, &dims(&a_shape));
    let b = if batch == 1 {
        graph.constant("b", tensor(&[k, n], 1))
    } else {
        inputs.push(vec![batch, k, n]);
        graph.input("b", DType::F32, &dims(&inputs[1]))
    };
    let rank = a_shape.len();
    let y = graph.node(
        "MatMul",
        13,
        Attributes::default(),
        &[a, b],
        (DType::F32, Some(vec![None; rank])),
    );
    graph.outputs.push(y);
    Layer {
        name: format!("MatMul {batch} x {m}x{k}x{n}"),
        times,
        operations: 2.0 * (batch * m * n * k) as f64,
        graph,
        inputs,
    }
}

/// A pool without arithmetic worth counting: what counts is milliseconds.
fn pool(op: &str, images: usize, channels: usize, side: usize) -> Layer {
    let mut graph = Graph::new("pool");
    let x = vec![images, channels, side, side];
    let input = graph.input("x", DType::F32, &x.iter().copied().map(Some).collect::<Vec<_>>());
    let attributes = if op.starts_with("Global") {
        Attributes::default()
    } else {
        Attributes::default()
            .with("kernel_shape", Attribute::Ints(vec![3, 3]))
            .with("strides", Attribute::Ints(vec![2, 2]))
            .with("pads", Attribute::Ints(vec![1; 4]))
    };
    let y = graph.node(op, 1, attributes, &[input], (DType::F32, Some(vec![None; 4])));
    graph.outputs.push(y);
    Layer {
        name: format!("{op} {images}x{channels}x{side}x{side}"),
        times: 1,
        operations: 0.0,
        graph,
        inputs: vec![x],
    }
}

fn networks() -> Vec<(&'static str, Vec<Layer>)> {
    let resnet = |images: usize| {
        let mut layers = vec![
            conv(1, images, [3, 224, 64, 7, 2, 1]),
            conv(1, images, [64, 56, 64, 1, 1, 1]),
        ];
        for (side, inner, blocks) in [(56, 64, 3), (28, 128, 4), (14, 256, 6), (7, 512, 3)] {
            let outer = inner * 4;
            if side < 56 {
                layers.push(conv(1, images, [inner * 2, side * 2, inner, 1, 1, 1]));
                layers.push(conv(1, images, [inner, side * 2, inner, 3, 2, 1]));
                layers.push(conv(1, images, [inner * 2, side * 2, outer, 1, 2, 1]));
            } else {
                layers.push(conv(1, images, [inner, side, outer, 1, 1, 1]));
            }
            let same = if side < 56 { blocks - 1 } else { blocks };
            layers.push(conv(blocks - 1, images, [outer, side, inner, 1, 1, 1]));
            layers.push(conv(same, images, [inner, side, inner, 3, 1, 1]));
            layers.push(conv(blocks, images, [inner, side, outer, 1, 1, 1]));
        }
        layers.push(pool("MaxPool", images, 64, 112));
        layers.push(pool("GlobalAveragePool", images, 2048, 7));
        layers.push(matmul(1, 1, [images, 2048, 1000]));
        layers
    };
    let mobilenet = |images: usize| {
        let mut layers = vec![
            conv(1, images, [3, 224, 32, 3, 2, 1]),
            conv(1, images, [32, 112, 32, 3, 1, 32]),
            conv(1, images, [32, 112, 16, 1, 1, 1]),
        ];
        // Expansion 6: channels in, side, channels out, repeats, stride of the first.
        for [channels, side, out, repeats, stride] in [
            [16, 112, 24, 2, 2],
            [24, 56, 32, 3, 2],
            [32, 28, 64, 4, 2],
            [64, 14, 96, 3, 1],
            [96, 14, 160, 3, 2],
            [160, 7, 320, 1, 1],
        ] {
            layers.push(conv(1, images, [channels, side, channels * 6, 1, 1, 1]));
            layers.push(conv(
                1,
                images,
                [channels * 6, side, channels * 6, 3, stride, channels * 6],
            ));
            let side = side / stride;
            layers.push(conv(1, images, [channels * 6, side, out, 1, 1, 1]));
            if repeats > 1 {
                layers.push(conv(repeats - 1, images, [out, side, out * 6, 1, 1, 1]));
                layers.push(conv(repeats - 1, images, [out * 6, side, out * 6, 3, 1, out * 6]));
                layers.push(conv(repeats - 1, images, [out * 6, side, out, 1, 1, 1]));
            }
        }
        layers.push(conv(1, images, [320, 7, 1280, 1, 1, 1]));
        layers.push(matmul(1, 1, [images, 1280, 1000]));
        layers
    };
    let minilm = |tokens: usize| {
        vec![
            matmul(24, 1, [tokens, 384, 384]),
            matmul(6, 12, [tokens, 32, tokens]),
            matmul(6, 12, [tokens, tokens, 32]),
            matmul(6, 1, [tokens, 384, 1536]),
            matmul(6, 1, [tokens, 1536, 384]),
        ]
    };
    vec![
        ("ResNet-50, batch 1", resnet(1)),
        ("ResNet-50, batch 8", resnet(8)),
        ("MobileNetV2, batch 1", mobilenet(1)),
        ("MiniLM-L6, 128 tokens", minilm(128)),
        ("MiniLM-L6, 16 tokens", minilm(16)),
    ]
}

/// Kernels of a layer and their best time in milliseconds.
fn measure(context: &Arc<DeviceContext>, layer: &Layer) -> opencl_kernels::Result<(String, f64)> {
    let program = Program::compile(layer.graph.clone(), &CompileOptions { fuse: false })?;
    let mut executor = Executor::new(Arc::clone(context), Arc::new(program))?;
    let tensors: Vec<_> = layer.inputs.iter().map(|shape| tensor(shape, 3)).collect();
    let inputs: Vec<_> = tensors.iter().map(InputView::from).collect();
    let mut best = f64::INFINITY;
    let mut kernels = Vec::new();
    for _ in 0..RUNS {
        let steps = executor.profile(&inputs)?;
        let nanoseconds: u64 = steps.iter().map(|step| step.nanoseconds).sum();
        best = best.min(nanoseconds as f64 / 1e6);
        kernels = steps.into_iter().map(|step| step.kernel).collect();
    }
    Ok((kernels.join(" + "), best))
}

fn main() -> opencl_kernels::Result<()> {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let device = default_device()?;
    let own = device.traits().kind;
    println!(
        "{}, {} compute units",
        device.info().name,
        device.info().compute_units
    );
    let contexts = [DeviceKind::Cpu, DeviceKind::Gpu].map(|kind| {
        let traits = DeviceTraits {
            kind,
            ..device.traits()
        };
        DeviceContext::open_as(device.clone(), DiskCache::in_default_folder(), traits).unwrap()
    });
    for (network, layers) in networks() {
        if !network.contains(&filter) {
            continue;
        }
        println!("\n{network}");
        let mut sums = [0.0, 0.0];
        for layer in &layers {
            for (context, sum) in contexts.iter().zip(&mut sums) {
                let (kernels, milliseconds) = measure(context, layer)?;
                *sum += milliseconds * layer.times as f64;
                println!(
                    "  {:<46} x{:<3} {:>9.3} ms {:>8.1} GFLOP/s  {kernels}{}",
                    layer.name,
                    layer.times,
                    milliseconds,
                    layer.operations / milliseconds / 1e6,
                    if context.traits().kind == own { "  <--" } else { "" }
                );
            }
        }
        let operations: f64 = layers
            .iter()
            .map(|layer| layer.operations * layer.times as f64)
            .sum();
        for (context, sum) in contexts.iter().zip(sums) {
            let kind = context.traits().kind;
            println!(
                "  {:<51} {sum:>9.3} ms {:>8.1} GFLOP/s{}",
                format!("sum with kernels for {kind}"),
                operations / sum / 1e6,
                if kind == own { "  <--" } else { "" }
            );
        }
    }
    Ok(())
}
