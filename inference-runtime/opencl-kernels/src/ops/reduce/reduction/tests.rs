//! Every reduction: values, axes in both forms, empty sets, NaN, accuracy, both kernels.

use crate::ir::Attribute;
use crate::ops::elementwise::numbers::{INTEGERS, integer_tensor, integers};
use crate::runtime::DeviceKind;
use crate::tensor::{DType, HostTensor};
use crate::testing::{Case, numbers, tensor};

const KINDS: [DeviceKind; 2] = [DeviceKind::Cpu, DeviceKind::Gpu];

const ALL: [&str; 10] = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
];

/// A reduction with its axes as an input.
fn reduce(op_type: &str, x: HostTensor, axes: &[i64]) -> Case {
    let version = match op_type {
        "ReduceSum" => 13,
        "ReduceMax" | "ReduceMin" => 20,
        _ => 18,
    };
    let rank = x.shape().len();
    let dtype = x.dtype();
    let axes = HostTensor::i64([axes.len()], axes);
    Case::new(op_type, version)
        .input(x)
        .constant(axes)
        .output(dtype, rank)
        .within(0.0, 1e-6)
}

fn flat(case: Case) -> Case {
    case.attr("keepdims", Attribute::Int(0))
}

fn assert_near(what: &str, actual: &HostTensor, expected: &[f32]) {
    let actual = actual.to_f32().unwrap();
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (a, e) in actual.iter().zip(expected) {
        let close = (a - e).abs() <= 1e-6 * e.abs().max(1.0);
        assert!(
            close || a.total_cmp(e).is_eq() || (a.is_nan() && e.is_nan()),
            "{what}: {a}, not {e}"
        );
    }
}

#[test]
fn values() {
    let x = HostTensor::f32([2, 3], &[1.0, -2.0, 3.0, 0.5, 0.25, 4.0]);
    for (op_type, expected) in [
        ("ReduceL1", [6.0, 4.75]),
        ("ReduceL2", [3.741_657_4, 4.038_873]),
        ("ReduceLogSum", [std::f32::consts::LN_2, 1.558_144_6]),
        ("ReduceLogSumExp", [3.132_845_2, 4.052_322]),
        ("ReduceMax", [3.0, 4.0]),
        ("ReduceMean", [0.666_666_7, 1.583_333_4]),
        ("ReduceMin", [-2.0, 0.25]),
        ("ReduceProd", [-6.0, 0.5]),
        ("ReduceSum", [2.0, 4.75]),
        ("ReduceSumSquare", [14.0, 16.3125]),
    ] {
        for kind in KINDS {
            let y = reduce(op_type, x.clone(), &[-1]).check_as(kind);
            assert_eq!(y[0].shape(), [2, 1], "{op_type}");
            assert_near(op_type, &y[0], &expected);
        }
    }
}

#[test]
fn axes_may_be_an_attribute_an_input_or_absent() {
    let x = tensor(&[2, 3, 4], 1);
    let attribute = Case::new("ReduceSum", 11).attr("axes", Attribute::Ints(vec![0, -1]));
    let y = attribute
        .attr("keepdims", Attribute::Int(0))
        .input(x.clone())
        .output(DType::F32, 1)
        .check();
    assert_eq!(y[0].shape(), [3]);
    let all = Case::new("ReduceMean", 13).input(x.clone()).check();
    assert_eq!(all[0].shape(), [1, 1, 1]);
    let all = flat(Case::new("ReduceMean", 18))
        .input(x.clone())
        .output(DType::F32, 0)
        .check();
    assert_eq!(all[0].shape(), [0; 0]);
    let all = reduce("ReduceMax", x.clone(), &[]).check();
    assert_eq!(all[0].shape(), [1, 1, 1]);

    let error = reduce("ReduceSum", x.clone(), &[3]).refusal();
    assert!(error.to_string().contains("axis 3"), "{error}");
    let bad = Case::new("ReduceSum", 11)
        .attr("axes", Attribute::Ints(vec![-4]))
        .input(x.clone());
    assert!(bad.refusal().to_string().contains("axis -4"));
    let dynamic = Case::new("ReduceSum", 13)
        .input(x)
        .input(HostTensor::i64([1], &[0]));
    dynamic.refusal();
}

#[test]
fn without_axes_each_element_may_be_its_own_reduction() {
    let x = HostTensor::f32([2], &[-2.0, 3.0]);
    for (op_type, expected) in [
        ("ReduceSum", [-2.0, 3.0]),
        ("ReduceMax", [-2.0, 3.0]),
        ("ReduceL2", [2.0, 3.0]),
        ("ReduceSumSquare", [4.0, 9.0]),
        ("ReduceLogSum", [f32::NAN, 1.098_612_3]),
        ("ReduceLogSumExp", [-2.0, 3.0]),
    ] {
        let case = reduce(op_type, x.clone(), &[]).attr("noop_with_empty_axes", Attribute::Int(1));
        assert_near(op_type, &case.check()[0], &expected);
    }
}

#[test]
fn nothing_reduces_to_the_neutral_element() {
    const INF: f32 = f32::INFINITY;
    for (op_type, expected) in [
        ("ReduceL1", 0.0),
        ("ReduceL2", 0.0),
        ("ReduceLogSum", -INF),
        ("ReduceLogSumExp", -INF),
        ("ReduceMax", -INF),
        ("ReduceMean", 0.0),
        ("ReduceMin", INF),
        ("ReduceProd", 1.0),
        ("ReduceSum", 0.0),
        ("ReduceSumSquare", 0.0),
    ] {
        let y = reduce(op_type, tensor(&[2, 0, 3], 1), &[1]).check();
        assert_near(op_type, &y[0], &[expected; 6]);
        let none = reduce(op_type, tensor(&[0, 3], 1), &[1]).check();
        assert_eq!(none[0].shape(), [0, 1]);
    }
    let empty = integer_tensor(DType::I32, [0], []);
    assert_eq!(
        reduce("ReduceMax", empty.clone(), &[0]).check()[0]
            .to_i32()
            .unwrap(),
        [i32::MIN]
    );
    assert_eq!(
        reduce("ReduceMean", empty, &[0]).check()[0].to_i32().unwrap(),
        [0]
    );
}

#[test]
fn nan_and_infinities() {
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    let rows = [
        [1.0, NAN, 3.0],
        [INF, 2.0, -INF],
        [-INF, -INF, -INF],
        [INF, INF, 1.0],
    ];
    let x = HostTensor::f32([4, 3], rows.as_flattened());
    for (op_type, expected) in [
        ("ReduceMax", [NAN, INF, -INF, INF]),
        ("ReduceMin", [NAN, -INF, -INF, 1.0]),
        ("ReduceSum", [NAN, NAN, -INF, INF]),
        ("ReduceMean", [NAN, NAN, -INF, INF]),
        ("ReduceLogSumExp", [NAN, INF, -INF, INF]),
        ("ReduceL1", [NAN, INF, INF, INF]),
        ("ReduceL2", [NAN, INF, INF, INF]),
        ("ReduceLogSum", [NAN, NAN, NAN, INF]),
        ("ReduceProd", [NAN, -INF, -INF, INF]),
    ] {
        assert_near(op_type, &reduce(op_type, x.clone(), &[1]).check()[0], &expected);
    }
    // Rows long enough for a work-group each, with the NaN and the infinity in different lanes.
    let mut long = numbers(300, 1);
    long[17] = NAN;
    long[180] = INF;
    for op_type in ALL {
        let y = reduce(op_type, HostTensor::f32([1, 300], &long), &[1]).check_as(DeviceKind::Gpu);
        assert_near(op_type, &y[0], &[NAN]);
    }
}

#[test]
fn every_choice_of_axes_through_both_kernels() {
    let shape = [3, 5, 1, 37];
    for mask in 0..16_i64 {
        let axes: Vec<i64> = (0..4).filter(|axis| mask >> axis & 1 == 1).collect();
        for kind in KINDS {
            for op_type in ["ReduceSum", "ReduceMax"] {
                let case = reduce(op_type, tensor(&shape, 1), &axes).within(2e-6, 1e-6);
                case.check_as(kind);
            }
        }
    }
    // Alternating axes cannot be merged.
    let shape = [2, 3, 2, 3, 2, 3, 2, 3];
    for axes in [[0, 2, 4, 6], [1, 3, 5, 7]] {
        for kind in KINDS {
            reduce("ReduceMean", tensor(&shape, 2), &axes)
                .within(1e-6, 1e-6)
                .check_as(kind);
        }
    }
}

#[test]
fn all_reductions_agree_with_the_reference_over_long_and_short_rows() {
    for op_type in ALL {
        // Positive numbers near 1: sums grow, products neither vanish nor overflow.
        let positive = |count: usize| {
            numbers(count, 3)
                .iter()
                .map(|x| 1.0 + 0.1 * x)
                .collect::<Vec<_>>()
        };
        let relative = if op_type == "ReduceProd" { 2e-5 } else { 1e-6 };
        for kind in KINDS {
            let long = HostTensor::f32([2, 1500], &positive(3000));
            reduce(op_type, long, &[1]).within(1e-6, relative).check_as(kind);
            let columns = HostTensor::f32([70, 40], &positive(2800));
            reduce(op_type, columns, &[0])
                .within(1e-6, relative)
                .check_as(kind);
        }
    }
}

#[test]
fn a_million_terms_stay_accurate() {
    let x: Vec<f32> = numbers(1_000_000, 4).iter().map(|x| 1.0 + x).collect();
    for kind in KINDS {
        let x = HostTensor::f32([1_000_000], &x);
        reduce("ReduceSum", x.clone(), &[0])
            .within(0.0, 3e-7)
            .check_as(kind);
        reduce("ReduceMean", x, &[0]).within(0.0, 3e-7).check_as(kind);
    }
}

#[test]
fn columns_that_fill_a_gpu_are_reduced_side_by_side() {
    let x = tensor(&[40, 1 << 14], 5);
    reduce("ReduceSum", x, &[0])
        .within(2e-6, 1e-6)
        .check_as(DeviceKind::Gpu);
}

#[test]
fn integers_of_every_type() {
    for dtype in INTEGERS {
        let x = integer_tensor(dtype, [2, 3], [1, 2, 5, 100, 3, 7]);
        for (op_type, expected) in [
            ("ReduceSum", [8, 110]),
            ("ReduceMean", [2, 36]),
            ("ReduceMax", [5, 100]),
            ("ReduceMin", [1, 3]),
        ] {
            let y = reduce(op_type, x.clone(), &[1]).check();
            assert_eq!(integers(&y[0]).unwrap(), expected, "{op_type} of {dtype}");
        }
    }
    let x = HostTensor::i64([4], &[-1, -2, -4, i64::MAX]);
    for op_type in [
        "ReduceSum",
        "ReduceProd",
        "ReduceL1",
        "ReduceSumSquare",
        "ReduceMin",
        "ReduceMean",
    ] {
        reduce(op_type, x.clone(), &[0]).check();
    }
    let mean = reduce("ReduceMean", HostTensor::i32([3], &[-1, -2, -4]), &[0]).check();
    assert_eq!(mean[0].to_i32().unwrap(), [-2], "truncated");
    let long: Vec<i64> = (0..200).map(|i| (i * 7919) % 1000 - 500).collect();
    for op_type in ["ReduceSum", "ReduceMax"] {
        reduce(op_type, HostTensor::i64([2, 100], &long), &[1]).check_as(DeviceKind::Gpu);
    }
    assert!(
        reduce("ReduceL2", x, &[0])
            .refusal()
            .to_string()
            .contains("int64")
    );
}

#[test]
fn bools_have_extremes() {
    let x = HostTensor::bool([2, 2], &[true, false, true, true]);
    let any = reduce("ReduceMax", x.clone(), &[1]).check();
    assert_eq!(any[0].to_bool().unwrap(), [true, true]);
    let all = reduce("ReduceMin", x, &[1]).check();
    assert_eq!(all[0].to_bool().unwrap(), [false, true]);
}
