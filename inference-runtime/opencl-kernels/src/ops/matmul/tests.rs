//! Device against reference, for the kernels of both kinds of device.

use std::sync::Arc;

use super::activation::Activation;
use crate::ir::Attribute;
use crate::program::{CompileOptions, Program};
use crate::runtime::{DeviceKind, Executor, InputView};
use crate::tensor::{DType, HostTensor};
use crate::testing::{Case, device_as, tensor};

const KINDS: [DeviceKind; 2] = [DeviceKind::Cpu, DeviceKind::Gpu];

fn matmul(a: &[usize], b: &[usize], output_rank: usize) -> Case {
    Case::new("MatMul", 13)
        .input(tensor(a, 1))
        .input(tensor(b, 2))
        .output(DType::F32, output_rank)
        .within(1e-5, 1e-5)
}

fn both(case: &Case) {
    for kind in KINDS {
        case.check_as(kind);
    }
}

#[test]
fn sizes_around_the_tiles_give_the_reference() {
    let sizes = [1, 3, 7, 17, 63, 64, 65, 130];
    for (i, &m) in sizes.iter().enumerate() {
        for (j, &n) in sizes.iter().enumerate() {
            // A Latin square: every pair of (m, n), (m, k) and (n, k) appears.
            let k = sizes[(i + j) % sizes.len()];
            both(&matmul(&[m, k], &[k, n], 2));
        }
    }
}

#[test]
fn long_sums_stay_within_a_hundred_thousandth() {
    // Terms are in -1..1 and their sums about 20; where a sum happens to cancel, its error does not.
    both(&matmul(&[9, 4096], &[4096, 33], 2).within(2e-4, 1e-5));
    both(&matmul(&[2, 4096], &[4096, 5], 2).within(2e-4, 1e-5));
}

#[test]
fn a_constant_right_operand_is_packed_once() {
    for (b, rank) in [(&[17, 65][..], 2), (&[3, 17, 65], 3), (&[17], 1)] {
        both(
            &Case::new("MatMul", 9)
                .input(tensor(&[5, 17], 1))
                .constant(tensor(b, 2))
                .output(DType::F32, rank)
                .within(1e-5, 1e-5),
        );
    }
}

#[test]
fn batches_broadcast_like_numpy() {
    for (a, b, rank) in [
        (&[4, 3, 5][..], &[5, 2][..], 3),
        (&[3, 5], &[4, 5, 2], 3),
        (&[2, 1, 3, 5], &[4, 5, 2], 4),
        (&[2, 3, 3, 5], &[2, 3, 5, 2], 4),
        (&[2, 1, 3, 5], &[1, 3, 5, 40], 4),
        (&[2, 1, 2, 1, 2, 1, 3, 5], &[1, 3, 1, 2, 1, 2, 5, 33], 8),
        (&[1, 2, 3, 5], &[6, 1, 5, 33], 4),
    ] {
        both(&matmul(a, b, rank));
    }
}

#[test]
fn a_vector_is_a_row_on_the_left_and_a_column_on_the_right() {
    for (a, b, rank) in [
        (&[5][..], &[5][..], 0),
        (&[5], &[5, 3], 1),
        (&[3, 5], &[5], 1),
        (&[2, 3, 5], &[5], 2),
        (&[5], &[2, 5, 3], 2),
        (&[70, 33], &[33], 1),
    ] {
        both(&matmul(a, b, rank));
    }
}

#[test]
fn nothing_times_something_is_zero_or_nothing() {
    for (a, b, rank) in [
        (&[3, 0][..], &[0, 4][..], 2),
        (&[0, 3], &[3, 4], 2),
        (&[3, 4], &[4, 0], 2),
        (&[0, 3, 4], &[4, 2], 3),
        (&[0], &[0], 0),
        (&[40, 0], &[0, 70], 2),
    ] {
        both(&matmul(a, b, rank));
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    for (a, b) in [(&[2, 3][..], &[4, 2][..]), (&[3], &[4]), (&[2, 2, 3], &[3, 3, 2])] {
        assert!(
            matmul(a, b, 2).refusal().to_string().contains("is not defined"),
            "{a:?} {b:?}"
        );
    }
}

#[test]
fn gemm_scales_transposes_and_broadcasts_c() {
    let c: [&[usize]; 7] = [&[], &[1], &[70], &[1, 70], &[9, 1], &[9, 70], &[1, 1]];
    for (i, c) in c.into_iter().enumerate() {
        for (trans_a, trans_b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let a = if trans_a == 1 { [20, 9] } else { [9, 20] };
            let b = if trans_b == 1 { [70, 20] } else { [20, 70] };
            let case = Case::new("Gemm", 13)
                .attr("alpha", Attribute::Float(0.5))
                .attr("beta", Attribute::Float(-2.0))
                .attr("transA", Attribute::Int(trans_a))
                .attr("transB", Attribute::Int(trans_b))
                .input(tensor(&a, 3))
                .within(1e-5, 1e-5);
            let b = tensor(&b, 4);
            let case = if i % 2 == 0 {
                case.input(b)
            } else {
                case.constant(b)
            };
            both(&case.input(tensor(c, 5)));
        }
    }
}

#[test]
fn gemm_needs_no_c_from_version_11_on() {
    let case = |version| {
        Case::new("Gemm", version)
            .input(tensor(&[3, 4], 1))
            .input(tensor(&[4, 5], 2))
    };
    both(&case(11));
    both(&case(13).absent());
    assert!(case(9).refusal().to_string().contains("input C is missing"));
}

#[test]
fn old_gemm_broadcasts_c_only_when_told_to() {
    let case = Case::new("Gemm", 6)
        .input(tensor(&[3, 4], 1))
        .input(tensor(&[4, 5], 2))
        .input(tensor(&[5], 3));
    assert!(case.refusal().to_string().contains("does not broadcast"));
    both(&case.attr("broadcast", Attribute::Int(1)));
}

#[test]
fn tall_and_thin_products_are_transposed_rightly() {
    let gemm = |c: &[usize], trans_a: i64, trans_b: i64| {
        Case::new("Gemm", 13)
            .attr("transA", Attribute::Int(trans_a))
            .attr("transB", Attribute::Int(trans_b))
            .input(tensor(&if trans_a == 1 { [33, 100] } else { [100, 33] }, 3))
            .input(tensor(&if trans_b == 1 { [1, 33] } else { [33, 1] }, 4))
            .input(tensor(c, 5))
    };
    for c in [&[100, 1][..], &[1], &[1, 1]] {
        for (trans_a, trans_b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            both(&gemm(c, trans_a, trans_b));
        }
    }
}

fn activations() -> Vec<(Activation, Vec<(&'static str, Attribute)>)> {
    let named = |name: &str| vec![("activation", Attribute::String(name.to_owned()))];
    let mut clip = named("Clip");
    clip.push(("clip_min", Attribute::Float(-0.25)));
    clip.push(("clip_max", Attribute::Float(0.75)));
    let mut leaky = named("LeakyRelu");
    leaky.push(("leaky_alpha", Attribute::Float(0.1)));
    vec![
        (Activation::None, named("None")),
        (Activation::Relu, named("Relu")),
        (Activation::Gelu, named("Gelu")),
        (Activation::GeluTanh, named("GeluTanh")),
        (Activation::Tanh, named("Tanh")),
        (Activation::Sigmoid, named("Sigmoid")),
        (Activation::Silu, named("Silu")),
        (Activation::HardSwish, named("HardSwish")),
        (
            Activation::Clip {
                min: -0.25,
                max: 0.75,
            },
            clip,
        ),
        (Activation::LeakyRelu { alpha: 0.1 }, leaky),
    ]
}

fn with(case: Case, attributes: Vec<(&'static str, Attribute)>) -> Case {
    attributes
        .into_iter()
        .fold(case, |case, (name, value)| case.attr(name, value))
}

#[test]
fn every_activation_is_applied_after_bias_and_residual() {
    for (activation, attributes) in activations() {
        for m in [3, 20] {
            let case = Case::fused("MatMulEpilogue")
                .attr("alpha", Attribute::Float(2.0))
                .input(tensor(&[m, 33], 1))
                .constant(tensor(&[33, 37], 2))
                .constant(tensor(&[37], 3))
                .input(tensor(&[m, 37], 4))
                .within(2e-6, 1e-5);
            let outputs = with(case, attributes.clone()).check_as(DeviceKind::Cpu);
            assert_eq!(outputs[0].shape(), [m, 37], "{activation:?}");
        }
        let case = Case::fused("MatMulEpilogue")
            .input(tensor(&[20, 33], 1))
            .input(tensor(&[33, 70], 2))
            .absent()
            .input(tensor(&[20, 70], 4))
            .within(2e-6, 1e-5);
        with(case, attributes.clone()).check_as(DeviceKind::Gpu);
    }
}

#[test]
fn activations_are_accurate_far_from_zero_and_keep_nan() {
    let mut x = vec![f32::NAN, 0.0, -0.0];
    x.extend((-400_i16..400).map(|i| f32::from(i) * 0.05));
    let n = x.len();
    for (_, attributes) in activations() {
        for kind in KINDS {
            let case = Case::fused("MatMulEpilogue")
                .input(HostTensor::f32([n, 1], &x))
                .input(HostTensor::f32([1, 1], &[1.0]))
                // GELU's tail is 1 + erf of something near -1, times x.
                .within(2e-6, 2e-6);
            with(case, attributes.clone()).check_as(kind);
        }
    }
}

/// The kernels that a GPU runs for a case.
fn kernels(case: &Case) -> Vec<&'static str> {
    let (graph, tensors) = case.graph(false);
    let program = Program::compile(graph, &CompileOptions { fuse: false }).unwrap();
    let mut executor = Executor::new(device_as(DeviceKind::Gpu), Arc::new(program)).unwrap();
    let inputs: Vec<_> = tensors.iter().map(InputView::from).collect();
    let steps = executor.profile(&inputs).unwrap();
    steps.into_iter().map(|step| step.kernel).collect()
}

#[test]
fn few_tiles_and_a_long_sum_are_cut_into_slices_and_joined() {
    for (batch, m, n) in [(1, 20, 37), (1, 64, 64), (2, 9, 30)] {
        let case = Case::fused("MatMulEpilogue")
            .attr("activation", Attribute::String("Relu".to_owned()))
            .attr("alpha", Attribute::Float(0.5))
            .input(tensor(&[batch, m, 700], 1))
            .input(tensor(&[batch, 700, n], 2))
            .input(tensor(&[n], 3))
            .input(tensor(&[batch, m, 1], 4))
            .within(2e-5, 1e-5);
        assert_eq!(kernels(&case), ["multiply_tiled", "join_slices"]);
        case.check_as(DeviceKind::Gpu);
    }
}

#[test]
fn attention_is_one_launch_per_product() {
    // Scores: queries times transposed keys, scaled; context: probabilities times values.
    both(
        &Case::fused("MatMulEpilogue")
            .attr("transB", Attribute::Int(1))
            .attr("alpha", Attribute::Float(0.176_776_7))
            .input(tensor(&[2, 12, 19, 32], 1))
            .input(tensor(&[2, 12, 19, 32], 2))
            .absent()
            .input(tensor(&[2, 1, 1, 19], 3))
            .output(DType::F32, 4),
    );
    both(&matmul(&[2, 12, 19, 19], &[2, 12, 19, 32], 4));
    both(
        &Case::fused("MatMulEpilogue")
            .attr("transA", Attribute::Int(1))
            .input(tensor(&[3, 19, 40], 1))
            .input(tensor(&[19, 45], 2)),
    );
}

#[test]
fn bias_and_residual_of_vector_products_follow_the_visible_axes() {
    for (a, b, addend, rank) in [
        (&[3, 5][..], &[5][..], &[3][..], 1),
        (&[5], &[5, 40], &[40], 1),
        (&[2, 3, 5], &[5], &[2, 1], 2),
        (&[5], &[5], &[1], 0),
    ] {
        if rank == 0 {
            let refused = Case::fused("MatMulEpilogue")
                .input(tensor(a, 1))
                .input(tensor(b, 2))
                .input(tensor(addend, 3))
                .output(DType::F32, rank);
            assert!(refused.refusal().to_string().contains("does not broadcast"));
            continue;
        }
        both(
            &Case::fused("MatMulEpilogue")
                .input(tensor(a, 1))
                .input(tensor(b, 2))
                .input(tensor(addend, 3))
                .input(tensor(addend, 4))
                .output(DType::F32, rank),
        );
    }
}

#[test]
fn other_types_and_attributes_are_declined() {
    let refused = Case::new("MatMul", 13)
        .input(HostTensor::i32([1, 1], &[1]))
        .input(HostTensor::i32([1, 1], &[1]))
        .refusal();
    assert!(refused.to_string().contains("input 0 is int32"), "{refused}");
    let refused = matmul(&[1, 1], &[1, 1], 2)
        .attr("alpha", Attribute::Float(2.0))
        .refusal();
    assert!(refused.to_string().contains("attribute 'alpha'"), "{refused}");
}
