//! A small residual network, fused and not, on the device and by the references.

mod graphs;

use graphs::Network;
use opencl_kernels::ir::{Attribute, Attributes, Graph, ValueId};
use opencl_kernels::tensor::DType;
use opencl_kernels::testing::{Tolerance, check_fused, check_within, tensor};

const TOLERANCE: Tolerance = Tolerance {
    absolute: 1e-4,
    relative: 1e-4,
};

fn residual_block(net: &mut Network, x: ValueId, channels: usize) -> ValueId {
    let y = net.conv(x, (channels, channels), 3, 1, 1);
    let y = net.relu(y);
    let y = net.conv(y, (channels, channels), 3, 1, 1);
    let sum = net.plain("Add", 14, &[y, x], 4);
    net.relu(sum)
}

/// `MobileNet`'s block: widen, filter each channel alone, narrow; `Clip` between.
fn inverted_block(net: &mut Network, x: ValueId, channels: usize) -> ValueId {
    let wide = channels * 3;
    let (low, high) = (net.scalar(0.0), net.scalar(6.0));
    let y = net.conv(x, (channels, wide), 1, 1, 1);
    let y = net.plain("Clip", 13, &[y, low, high], 4);
    let y = net.conv(y, (wide, wide), 3, 1, wide);
    let y = net.plain("Clip", 13, &[y, low, high], 4);
    let y = net.conv(y, (wide, channels), 1, 1, 1);
    net.plain("Add", 14, &[x, y], 4)
}

fn network() -> Graph {
    let mut net = Network::new("residual network");
    let x = net.graph.input("image", DType::F32, &[None, Some(3), None, None]);
    let y = net.conv(x, (3, 16), 7, 2, 1);
    let y = net.relu(y);
    let pooling = Attributes::default()
        .with("kernel_shape", Attribute::Ints(vec![3, 3]))
        .with("strides", Attribute::Ints(vec![2, 2]))
        .with("pads", Attribute::Ints(vec![1, 1, 1, 1]));
    let y = net.op("MaxPool", 12, pooling, &[y], 4);
    let y = residual_block(&mut net, y, 16);
    let y = net.conv(y, (16, 24), 3, 2, 1);
    let y = net.relu(y);
    let y = inverted_block(&mut net, y, 24);
    let y = net.plain("GlobalAveragePool", 1, &[y], 4);
    let y = net.op(
        "Flatten",
        13,
        Attributes::default().with("axis", Attribute::Int(1)),
        &[y],
        2,
    );
    let (w, b) = (net.weight(&[10, 24], 0.2), net.weight(&[10], 0.1));
    let transposed = Attributes::default().with("transB", Attribute::Int(1));
    let y = net.op("Gemm", 13, transposed, &[y, w, b], 2);
    net.graph.outputs.push(y);
    net.graph
}

#[test]
fn a_residual_network_is_right_without_fusion() {
    check_within(network(), &[tensor(&[2, 3, 33, 29], 1)], TOLERANCE);
}

#[test]
fn a_residual_network_is_right_with_fusion_and_is_mostly_epilogues() {
    let ops = check_fused(network(), &[tensor(&[2, 3, 33, 29], 1)], TOLERANCE);
    let fused = ops.iter().filter(|op| op.ends_with("::ConvEpilogue")).count();
    assert_eq!(
        fused, 7,
        "every convolution takes its batch norm, residual and activation with it: {ops:?}"
    );
    assert!(
        !ops.iter().any(|op| op == "BatchNormalization" || op == "Relu"),
        "{ops:?}"
    );
}

#[test]
fn the_smallest_images_and_batches_are_right() {
    for shape in [[1, 3, 1, 1], [1, 3, 2, 5], [3, 3, 8, 8], [0, 3, 8, 8]] {
        check_fused(network(), &[tensor(&shape, 2)], TOLERANCE);
    }
}
