//! Device against reference, for the kernels of both kinds of device.

use proptest::prelude::*;

use crate::ir::Attribute;
use crate::runtime::DeviceKind;
use crate::tensor::HostTensor;
use crate::testing::{Case, tensor};

const KINDS: [DeviceKind; 2] = [DeviceKind::Cpu, DeviceKind::Gpu];

/// A convolution in words: images, channels, spatial extents; output channels, groups; kernel, stride, dilation,
/// padding (before, after), each the same along all axes.
#[derive(Debug, Clone)]
struct Layer {
    images: usize,
    channels: usize,
    space: Vec<usize>,
    out: usize,
    groups: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pads: [usize; 2],
}

impl Layer {
    fn new(channels: usize, space: &[usize], out: usize, kernel: usize) -> Self {
        Self {
            images: 1,
            channels,
            space: space.to_vec(),
            out,
            groups: 1,
            kernel,
            stride: 1,
            dilation: 1,
            pads: [0, 0],
        }
    }

    fn images(mut self, images: usize) -> Self {
        self.images = images;
        self
    }

    fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    fn stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    fn dilation(mut self, dilation: usize) -> Self {
        self.dilation = dilation;
        self
    }

    fn pads(mut self, before: usize, after: usize) -> Self {
        self.pads = [before, after];
        self
    }

    fn x(&self) -> Vec<usize> {
        [&[self.images, self.channels], self.space.as_slice()].concat()
    }

    fn w(&self) -> Vec<usize> {
        let mut shape = vec![self.out, self.channels / self.groups];
        shape.extend(self.space.iter().map(|_| self.kernel));
        shape
    }

    fn attributes(&self, case: Case) -> Case {
        let each = |v: usize| Attribute::Ints(vec![v as i64; self.space.len()]);
        let pads = self.pads.iter().flat_map(|&p| vec![p as i64; self.space.len()]);
        case.attr("group", Attribute::Int(self.groups as i64))
            .attr("strides", each(self.stride))
            .attr("dilations", each(self.dilation))
            .attr("pads", Attribute::Ints(pads.collect()))
    }

    fn case(&self) -> Case {
        self.attributes(Case::new("Conv", 11))
            .input(tensor(&self.x(), 1))
            .constant(tensor(&self.w(), 2))
            .constant(tensor(&[self.out], 3))
            .within(1e-5, 1e-5)
    }

    fn fits(&self) -> bool {
        let reach = (self.kernel - 1) * self.dilation + 1;
        self.space
            .iter()
            .all(|&extent| extent + self.pads[0] + self.pads[1] >= reach)
    }
}

fn both(case: &Case) {
    for kind in KINDS {
        case.check_as(kind);
    }
}

#[test]
fn layers_of_known_networks_give_the_reference() {
    for layer in [
        // ResNet: first, 3x3, strided 3x3, 1x1, strided 1x1.
        Layer::new(3, &[32, 32], 16, 7).stride(2).pads(3, 3),
        Layer::new(16, &[14, 14], 20, 3).pads(1, 1),
        Layer::new(16, &[15, 14], 20, 3).stride(2).pads(1, 1).images(2),
        Layer::new(65, &[7, 7], 70, 1),
        Layer::new(32, &[14, 14], 64, 1).stride(2),
        // MobileNet: depthwise, strided depthwise.
        Layer::new(20, &[14, 14], 20, 3).groups(20).pads(1, 1),
        Layer::new(9, &[15, 15], 9, 3)
            .groups(9)
            .stride(2)
            .pads(1, 1)
            .images(2),
        // ResNeXt, and a channel multiplier.
        Layer::new(64, &[7, 9], 64, 3).groups(2).pads(1, 1).images(2),
        Layer::new(6, &[7, 9], 18, 3).groups(6).pads(1, 1),
        Layer::new(8, &[9, 9], 12, 3).groups(4),
        // A dilated context layer, an asymmetric padding, a patch embedding.
        Layer::new(16, &[17, 17], 16, 3).dilation(2).pads(2, 2),
        Layer::new(16, &[9, 9], 16, 2).pads(1, 0),
        Layer::new(3, &[32, 32], 24, 8).stride(8),
        // More than one tile of rows and columns, and channels that are no multiple of a step.
        Layer::new(17, &[20, 19], 67, 3).pads(1, 1),
        Layer::new(33, &[70], 18, 5).pads(2, 2).images(3),
    ] {
        both(&layer.case());
    }
}

#[test]
fn one_and_three_spatial_axes_work_like_two() {
    for layer in [
        Layer::new(4, &[50], 5, 3).pads(1, 1),
        Layer::new(4, &[50], 8, 4).stride(3).dilation(2).images(2),
        Layer::new(8, &[50], 8, 5).groups(8).pads(2, 2),
        Layer::new(16, &[65], 20, 1),
        Layer::new(3, &[5, 6, 7], 4, 3).pads(1, 1),
        Layer::new(4, &[7, 6, 9], 4, 2).groups(2).stride(2).pads(0, 1),
        Layer::new(5, &[4, 6, 7], 5, 3).groups(5).pads(1, 1).images(2),
        Layer::new(20, &[3, 4, 5], 16, 1),
    ] {
        both(&layer.case());
    }
}

#[test]
fn windows_beyond_the_tap_table_fall_back() {
    both(&Layer::new(2, &[13, 14], 3, 12).pads(2, 2).case());
}

#[test]
fn weights_that_a_request_brings_are_used() {
    for layer in [
        Layer::new(16, &[9, 9], 20, 3).pads(1, 1),
        Layer::new(16, &[9, 9], 20, 1),
        Layer::new(32, &[9, 9], 32, 3).groups(2).stride(2),
    ] {
        let case = layer.attributes(Case::new("Conv", 22));
        both(&case.input(tensor(&layer.x(), 1)).input(tensor(&layer.w(), 2)));
    }
}

#[test]
fn automatic_padding_centres_the_window() {
    for auto_pad in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        for (kernel, stride) in [(3, 1), (3, 2), (4, 1), (5, 3), (1, 2)] {
            let [h, w] = [kernel, (kernel - 1_usize).max(1)];
            both(
                &Case::new("Conv", 11)
                    .attr("auto_pad", Attribute::String(auto_pad.to_owned()))
                    .attr("strides", Attribute::Ints(vec![stride, stride]))
                    .input(tensor(&[2, 3, 9, 10], 1))
                    .constant(tensor(&[4, 3, h, w], 2)),
            );
        }
    }
}

#[test]
fn bias_residual_and_activation_end_every_kernel() {
    let layers = [
        Layer::new(16, &[9, 9], 20, 3).pads(1, 1).images(2),
        Layer::new(16, &[8, 10], 17, 3).pads(1, 1),
        Layer::new(16, &[9, 9], 20, 1),
        Layer::new(12, &[9, 20], 12, 3).groups(12).pads(1, 1),
        Layer::new(3, &[9, 9], 10, 3).pads(1, 1),
    ];
    for layer in layers {
        for (bias, residual) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut output = layer.x();
            output[1] = layer.out;
            let mut case = layer
                .attributes(Case::fused("ConvEpilogue"))
                .attr("activation", Attribute::String("Clip".to_owned()))
                .attr("clip_min", Attribute::Float(0.0))
                .attr("clip_max", Attribute::Float(1.5))
                .input(tensor(&layer.x(), 1))
                .constant(tensor(&layer.w(), 2));
            case = if bias {
                case.constant(tensor(&[layer.out], 3))
            } else {
                case.absent()
            };
            case = if residual {
                case.input(tensor(&output, 4))
            } else {
                case.absent()
            };
            both(&case.within(1e-5, 1e-5));
        }
    }
}

#[test]
fn deep_and_small_layers_are_cut_into_slices_and_joined() {
    // 36 steps in one tile of each group: cut on any device, in the middle of a tap.
    for layer in [
        Layer::new(64, &[7, 7], 40, 3).pads(1, 1),
        Layer::new(60, &[5, 4], 33, 3).pads(1, 1).images(3),
        Layer::new(100, &[6, 6], 40, 3).groups(2).stride(2).pads(1, 1),
    ] {
        let mut output = layer.x();
        output[1] = layer.out;
        for extent in &mut output[2..] {
            *extent = (*extent + 2 - 3) / layer.stride + 1;
        }
        layer
            .attributes(Case::fused("ConvEpilogue"))
            .attr("activation", Attribute::String("Relu".to_owned()))
            .input(tensor(&layer.x(), 1))
            .constant(tensor(&layer.w(), 2))
            .constant(tensor(&[layer.out], 3))
            .input(tensor(&output, 4))
            .within(5e-5, 1e-5)
            .check_as(DeviceKind::Gpu);
    }
}

#[test]
fn empty_batches_and_empty_sums_are_allowed() {
    both(&Layer::new(3, &[5, 5], 4, 3).images(0).case());
    for kernel in [1, 3] {
        both(
            &Case::new("Conv", 11)
                .input(HostTensor::f32([2, 0, 5, 5], &[]))
                .constant(HostTensor::f32([4, 0, kernel, kernel], &[]))
                .constant(tensor(&[4], 3)),
        );
    }
    // No input at all, only padding.
    both(&Layer::new(2, &[0, 3], 3, 2).pads(1, 1).case());
}

#[test]
fn what_does_not_fit_is_refused_with_the_shapes() {
    for (layer, words) in [
        (Layer::new(3, &[4, 4], 2, 5), "does not fit"),
        (
            Layer::new(3, &[4, 4], 3, 3).groups(2),
            "another number of channels",
        ),
        (Layer::new(4, &[4, 4], 3, 3).groups(2), "do not divide"),
    ] {
        let refusal = layer.case().refusal().to_string();
        assert!(refusal.contains(words), "{refusal}");
    }
    let scalar = Case::new("Conv", 11)
        .input(tensor(&[1, 3], 1))
        .constant(tensor(&[4, 3], 2));
    assert!(scalar.refusal().to_string().contains("one to three spatial axes"));
    let wrong = Layer::new(3, &[4, 4], 2, 3)
        .case()
        .attr("kernel_shape", Attribute::Ints(vec![2, 2]));
    assert!(wrong.refusal().to_string().contains("kernel_shape"));
}

prop_compose! {
    fn layer()(
        images in 1..3_usize,
        groups in 1..4_usize,
        (depth, rows) in prop_oneof![(1..6_usize, 1..10_usize), (12..20_usize, 16..20_usize)],
        space in prop::collection::vec(1..12_usize, 1..4),
        kernel in 1..5_usize,
        stride in 1..4_usize,
        dilation in 1..3_usize,
        pads in [0..3_usize, 0..3_usize],
    ) -> Layer {
        Layer {
            images, channels: depth * groups, space, out: rows * groups, groups, kernel, stride, dilation, pads,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_layer_that_fits_gives_the_reference(layer in layer().prop_filter("fits", Layer::fits)) {
        // Up to 1200 terms in -1..1, which may cancel.
        both(&layer.case().within(1e-4, 1e-5));
    }
}
