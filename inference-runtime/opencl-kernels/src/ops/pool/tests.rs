//! Device against reference, and reference against hand-computed values.

use proptest::prelude::*;

use crate::ir::Attribute;
use crate::runtime::DeviceKind;
use crate::tensor::{DType, HostTensor};
use crate::testing::{Case, tensor};

fn ints(values: &[usize]) -> Attribute {
    Attribute::Ints(values.iter().map(|&v| v as i64).collect())
}

fn max_pool(x: HostTensor, kernel: &[usize], strides: &[usize]) -> Case {
    Case::new("MaxPool", 12)
        .attr("kernel_shape", ints(kernel))
        .attr("strides", ints(strides))
        .input(x)
}

#[test]
fn the_largest_element_and_its_index_are_found() {
    let x = HostTensor::f32([1, 1, 3, 4], &[1., 5., 2., 0., 3., 4., 9., 8., 7., 7., 6., 5.]);
    for (order, expected) in [(0, [1_i64, 6, 8, 6]), (1, [3, 7, 2, 7])] {
        let outputs = max_pool(x.clone(), &[2, 2], &[1, 2])
            .attr("storage_order", Attribute::Int(order))
            .output(DType::F32, 4)
            .output(DType::I64, 4)
            .check();
        assert_eq!(outputs[0].to_f32().unwrap(), [5., 9., 7., 9.]);
        assert_eq!(outputs[1].to_i64().unwrap(), expected);
    }
}

#[test]
fn nan_wins_wherever_it_lies() {
    for place in 0..4 {
        let mut values = [1.0, 2.0, 3.0, 4.0];
        values[place] = f32::NAN;
        let outputs = max_pool(HostTensor::f32([1, 1, 2, 2], &values), &[2, 2], &[1, 1]).check();
        assert!(outputs[0].to_f32().unwrap()[0].is_nan());
        let whole = Case::new("GlobalMaxPool", 1).input(HostTensor::f32([1, 1, 2, 2], &values));
        assert!(whole.check_as(DeviceKind::Gpu)[0].to_f32().unwrap()[0].is_nan());
        assert!(whole.check_as(DeviceKind::Cpu)[0].to_f32().unwrap()[0].is_nan());
    }
}

#[test]
fn minus_infinity_is_an_element_like_others() {
    let x = HostTensor::f32([1, 1, 3], &[f32::NEG_INFINITY; 3]);
    for kind in [DeviceKind::Cpu, DeviceKind::Gpu] {
        let outputs = max_pool(x.clone(), &[2], &[1]).check_as(kind);
        assert_eq!(outputs[0].to_f32().unwrap(), [f32::NEG_INFINITY; 2]);
    }
}

#[test]
fn padding_counts_only_when_told_to() {
    let case = |count: i64| {
        Case::new("AveragePool", 11)
            .attr("kernel_shape", ints(&[2]))
            .attr("pads", ints(&[1, 0]))
            .attr("count_include_pad", Attribute::Int(count))
            .input(HostTensor::f32([1, 1, 3], &[2.0, 4.0, 6.0]))
    };
    assert_eq!(case(0).check()[0].to_f32().unwrap(), [2.0, 3.0, 5.0]);
    assert_eq!(case(1).check()[0].to_f32().unwrap(), [1.0, 3.0, 5.0]);
}

#[test]
fn a_window_whose_taps_step_over_the_input_averages_to_zero() {
    for kind in [DeviceKind::Cpu, DeviceKind::Gpu] {
        let outputs = Case::new("AveragePool", 22)
            .attr("kernel_shape", ints(&[2]))
            .attr("dilations", ints(&[2]))
            .attr("pads", ints(&[1, 1]))
            .input(HostTensor::f32([1, 1, 1], &[5.0]))
            .check_as(kind);
        assert_eq!(outputs[0].to_f32().unwrap(), [0.0]);
    }
}

#[test]
fn what_hangs_over_the_padding_never_counts() {
    let outputs = Case::new("AveragePool", 19)
        .attr("kernel_shape", ints(&[3]))
        .attr("strides", ints(&[2]))
        .attr("ceil_mode", Attribute::Int(1))
        .attr("count_include_pad", Attribute::Int(1))
        .attr("pads", ints(&[0, 1]))
        .input(HostTensor::f32([1, 1, 5], &[1.0, 1.0, 1.0, 1.0, 1.0]))
        .check();
    // The third window holds one element and one of padding; its last tap lies beyond both.
    assert_eq!(outputs[0].to_f32().unwrap(), [1.0, 1.0, 0.5]);
}

#[test]
fn pools_of_known_networks_give_the_reference() {
    for kind in [DeviceKind::Cpu, DeviceKind::Gpu] {
        for stride in 1..4 {
            for side in [20, 67] {
                max_pool(tensor(&[2, 2, 5, side], 1), &[3, 3], &[stride, stride])
                    .attr("pads", ints(&[1, 1, 1, 1]))
                    .check_as(kind);
            }
        }
    }
    for auto_pad in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        max_pool(tensor(&[1, 2, 9, 10], 1), &[3, 2], &[2, 2])
            .attr("auto_pad", Attribute::String(auto_pad.to_owned()))
            .check();
    }
}

#[test]
fn whole_planes_are_pooled_on_both_kinds_of_device() {
    for op in ["GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"] {
        for shape in [
            &[2, 3, 7, 7][..],
            &[1, 5, 1, 1],
            &[1, 2, 70],
            &[3, 1, 4, 5, 6],
            &[0, 3, 2, 2],
            &[1, 3, 130, 9],
        ] {
            for kind in [DeviceKind::Cpu, DeviceKind::Gpu] {
                Case::new(op, 1).input(tensor(shape, 1)).check_as(kind);
            }
        }
    }
    let cubic = Case::new("GlobalLpPool", 2)
        .attr("p", Attribute::Int(3))
        .input(tensor(&[1, 4, 5, 5], 2));
    cubic.check_as(DeviceKind::Cpu);
    cubic.check_as(DeviceKind::Gpu);
}

#[test]
fn ambiguous_and_impossible_windows_are_refused() {
    let same = |case: Case| case.attr("auto_pad", Attribute::String("SAME_UPPER".to_owned()));
    let refusal = same(max_pool(tensor(&[1, 1, 9], 1), &[2], &[1]))
        .attr("dilations", ints(&[2]))
        .refusal();
    assert!(refusal.to_string().contains("no agreed meaning"), "{refusal}");
    let refusal = same(max_pool(tensor(&[1, 1, 9], 1), &[2], &[3])).refusal();
    assert!(refusal.to_string().contains("no agreed meaning"), "{refusal}");
    let refusal = max_pool(tensor(&[1, 1, 2], 1), &[9], &[1]).refusal();
    assert!(refusal.to_string().contains("does not fit"), "{refusal}");
}

prop_compose! {
    fn windows()(
        op in prop::sample::select(vec!["MaxPool", "AveragePool", "LpPool"]),
        space in prop::collection::vec(1..10_usize, 1..4),
        kernel in prop::collection::vec(1..5_usize, 3),
        stride in prop::collection::vec(1..4_usize, 3),
        dilation in prop::collection::vec(1..3_usize, 3),
        pads in prop::collection::vec(0..4_usize, 6),
        ceil in 0..2_i64,
        count in 0..2_i64,
    ) -> Option<Case> {
        let axes = space.len();
        // ONNX wants padding smaller than the kernel.
        let pads: Vec<usize> = (0..2 * axes).map(|i| pads[i].min(kernel[i % axes] - 1)).collect();
        let fits = (0..axes).all(|i| {
            space[i] + pads[i] + pads[axes + i] > (kernel[i] - 1) * dilation[i]
        });
        if !fits {
            return None;
        }
        let mut case = Case::new(op, 22)
            .attr("kernel_shape", ints(&kernel[..axes]))
            .attr("strides", ints(&stride[..axes]))
            .attr("dilations", ints(&dilation[..axes]))
            .attr("pads", ints(&pads))
            .attr("ceil_mode", Attribute::Int(ceil))
            .input(tensor(&[&[2, 2], space.as_slice()].concat(), 7));
        if op == "AveragePool" {
            case = case.attr("count_include_pad", Attribute::Int(count));
        }
        if op == "MaxPool" {
            case = case.attr("storage_order", Attribute::Int(count));
            case = case.output(DType::F32, axes + 2);
            case = if stride[0] == 1 { case.no_output() } else { case.output(DType::I64, axes + 2) };
        }
        Some(case)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_window_that_fits_gives_the_reference(case in windows().prop_filter_map("fits", |case| case)) {
        case.check_as(DeviceKind::Cpu);
        case.check_as(DeviceKind::Gpu);
    }
}
