//! Every function of one operand against published formulas, its reference and the device.

#![expect(
    clippy::approx_constant,
    reason = "values that happen to be famous stand beside those that do not"
)]

use crate::ir::Attribute;
use crate::tensor::{DType, HostTensor, TensorType};
use crate::testing::{Case, numbers};

/// An operator, its version, and pairs of argument and value.
type Row = (&'static str, i32, &'static [(f32, f32)]);

/// What the formulas of the ONNX operator spec give in double precision, rounded to float32 (default attributes, but
/// alpha = 2 for Celu).
#[rustfmt::skip]
const VALUES: &[Row] = &[
    ("Abs", 13, &[(-1.5, 1.5), (-0.25, 0.25), (0.0, 0.0), (0.5, 0.5), (2.0, 2.0)]),
    ("Acos", 22, &[(-1.0, 3.141_592_7), (-0.25, 1.823_476_6), (0.0, 1.570_796_4), (0.5, 1.047_197_6), (1.0, 0.0)]),
    ("Acosh", 22, &[(1.0, 0.0), (1.5, 0.962_423_6), (2.0, 1.316_958), (10.0, 2.993_223)]),
    ("Asin", 22, &[(-1.0, -1.570_796_4), (-0.25, -0.252_680_24), (0.0, 0.0), (0.5, 0.523_598_8), (1.0, 1.570_796_4)]),
    ("Asinh", 22, &[(-1.5, -1.194_763_2), (-0.25, -0.247_466_46), (0.0, 0.0), (0.5, 0.481_211_8), (2.0, 1.443_635_5)]),
    ("Atan", 22, &[(-1.5, -0.982_793_75), (-0.25, -0.244_978_67), (0.0, 0.0), (0.5, 0.463_647_6), (2.0, 1.107_148_8)]),
    ("Atanh", 22, &[(-0.75, -0.972_955_05), (-0.25, -0.255_412_82), (0.0, 0.0), (0.5, 0.549_306_15)]),
    ("Ceil", 13, &[(-1.5, -1.0), (-0.25, 0.0), (0.0, 0.0), (0.5, 1.0), (2.0, 2.0)]),
    ("Celu", 28, &[(-1.5, -1.055_266_9), (-0.25, -0.235_006_2), (0.0, 0.0), (0.5, 0.5), (2.0, 2.0)]),
    ("Cos", 22, &[(-1.5, 0.070_737_2), (-0.25, 0.968_912_4), (0.0, 1.0), (0.5, 0.877_582_55), (2.0, -0.416_146_84)]),
    ("Cosh", 22, &[(-1.5, 2.352_409_6), (-0.25, 1.031_413_1), (0.0, 1.0), (0.5, 1.127_626), (2.0, 3.762_195_6)]),
    ("Elu", 22, &[(-1.5, -0.776_869_83), (-0.25, -0.221_199_21), (0.0, 0.0), (0.5, 0.5), (2.0, 2.0)]),
    ("Erf", 13, &[(-1.5, -0.966_105_16), (-0.25, -0.276_326_4), (0.0, 0.0), (0.5, 0.520_499_9), (2.0, 0.995_322_3)]),
    ("Exp", 13, &[(-1.5, 0.223_130_17), (-0.25, 0.778_800_8), (0.0, 1.0), (0.5, 1.648_721_2), (2.0, 7.389_056)]),
    ("Floor", 13, &[(-1.5, -2.0), (-0.25, -1.0), (0.0, 0.0), (0.5, 0.0), (2.0, 2.0)]),
    ("Gelu", 20, &[(-1.5, -0.100_210_8), (-0.25, -0.100_323_42), (0.0, 0.0), (0.5, 0.345_731_23), (2.0, 1.954_499_7)]),
    ("HardSigmoid", 22, &[(-1.5, 0.2), (-0.25, 0.45), (0.0, 0.5), (0.5, 0.6), (2.0, 0.9)]),
    ("HardSwish", 22, &[(-1.5, -0.375), (-0.25, -0.114_583_34), (0.0, 0.0), (0.5, 0.291_666_66), (2.0, 1.666_666_6)]),
    ("LeakyRelu", 16, &[(-1.5, -0.015), (-0.25, -0.002_5), (0.0, 0.0), (0.5, 0.5), (2.0, 2.0)]),
    ("Log", 13, &[(0.25, -1.386_294_4), (0.5, -0.693_147_2), (1.0, 0.0), (8.0, 2.079_441_5)]),
    ("Mish", 22, &[(-1.5, -0.298_099_76), (-0.25, -0.129_926_96), (0.0, 0.0), (0.5, 0.375_245_2), (2.0, 1.943_959)]),
    ("Neg", 13, &[(-1.5, 1.5), (-0.25, 0.25), (0.0, 0.0), (0.5, -0.5), (2.0, -2.0)]),
    ("Reciprocal", 13, &[(-1.5, -0.666_666_7), (-0.25, -4.0), (0.5, 2.0), (2.0, 0.5)]),
    ("Relu", 14, &[(-1.5, 0.0), (-0.25, 0.0), (0.0, 0.0), (0.5, 0.5), (2.0, 2.0)]),
    ("Round", 22, &[(-2.5, -2.0), (-1.5, -2.0), (-0.5, 0.0), (0.5, 0.0), (1.5, 2.0), (2.5, 2.0)]),
    ("Selu", 22, &[(-1.5, -1.365_814_3), (-0.25, -0.388_890_2), (0.0, 0.0), (0.5, 0.525_350_5), (2.0, 2.101_402)]),
    ("Shrink", 9, &[(-1.5, -1.5), (-0.25, 0.0), (0.0, 0.0), (0.5, 0.0), (2.0, 2.0)]),
    ("Sigmoid", 13, &[(-1.5, 0.182_425_53), (-0.25, 0.437_823_5), (0.0, 0.5), (0.5, 0.622_459_35), (2.0, 0.880_797_1)]),
    ("Sign", 13, &[(-1.5, -1.0), (-0.25, -1.0), (0.0, 0.0), (0.5, 1.0), (2.0, 1.0)]),
    ("Sin", 22, &[(-1.5, -0.997_495), (-0.25, -0.247_403_96), (0.0, 0.0), (0.5, 0.479_425_55), (2.0, 0.909_297_4)]),
    ("Sinh", 22, &[(-1.5, -2.129_279_4), (-0.25, -0.252_612_32), (0.0, 0.0), (0.5, 0.521_095_3), (2.0, 3.626_860_4)]),
    ("Softplus", 22, &[(-1.5, 0.201_413_27), (-0.25, 0.575_939_4), (0.0, 0.693_147_2), (0.5, 0.974_077), (2.0, 2.126_928)]),
    ("Softsign", 22, &[(-1.5, -0.6), (-0.25, -0.2), (0.0, 0.0), (0.5, 0.333_333_34), (2.0, 0.666_666_7)]),
    ("Sqrt", 13, &[(0.0, 0.0), (0.25, 0.5), (2.0, 1.414_213_5), (9.0, 3.0)]),
    ("Swish", 24, &[(-1.5, -0.273_638_28), (-0.25, -0.109_455_88), (0.0, 0.0), (0.5, 0.311_229_68), (2.0, 1.761_594_2)]),
    ("Tan", 22, &[(-1.5, -14.101_42), (-0.25, -0.255_341_92), (0.0, 0.0), (0.5, 0.546_302_5), (2.0, -2.185_039_8)]),
    ("Tanh", 13, &[(-1.5, -0.905_148_27), (-0.25, -0.244_918_66), (0.0, 0.0), (0.5, 0.462_117_17), (2.0, 0.964_027_6)]),
    ("ThresholdedRelu", 22, &[(-1.5, 0.0), (-0.25, 0.0), (0.0, 0.0), (0.5, 0.0), (2.0, 2.0)]),
];

fn case(op_type: &str, version: i32) -> Case {
    let case = Case::new(op_type, version);
    match op_type {
        "Celu" => case.within(2e-7, 1e-6).attr("alpha", Attribute::Float(2.0)),
        // 1 + erf cancels where both are near 1, in everybody's float32.
        "Gelu" => case.within(1e-6, 1e-6),
        _ => case.within(2e-7, 1e-6),
    }
}

fn floats(values: &[f32]) -> HostTensor {
    HostTensor::f32([values.len()], values)
}

fn run(case: &Case) -> Vec<f32> {
    case.check()[0].to_f32().unwrap()
}

#[track_caller]
fn assert_same(what: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let close = (a - e).abs() <= 1e-6 * e.abs().max(1.0);
        assert!(
            close || a.total_cmp(e).is_eq() || (a.is_nan() && e.is_nan()),
            "{what}, element {i}: {a}, not {e}"
        );
    }
}

#[test]
fn functions_have_the_values_of_their_formulas() {
    for (op_type, version, pairs) in VALUES {
        let (x, y): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
        assert_same(op_type, &run(&case(op_type, *version).input(floats(&x))), &y);
    }
}

#[test]
fn the_device_follows_the_reference_over_the_whole_range() {
    for (op_type, version, pairs) in VALUES {
        let mut x = vec![f32::NAN, 0.0, -0.0, 1e-30, -1e-30, 1e-4, -1e-4];
        let scale = match *op_type {
            "Acos" | "Asin" | "Atanh" => 1.0,
            // Beyond, the size of the argument says more about the result than the function does.
            "Sin" | "Cos" | "Tan" | "Sinh" | "Cosh" | "Exp" => 8.0,
            _ => {
                x.extend([f32::INFINITY, f32::NEG_INFINITY, 88.0, -88.0, 1e20, -1e20]);
                30.0
            }
        };
        x.extend(numbers(500, 7).iter().map(|x| x * scale));
        x.extend(numbers(500, 8));
        if pairs[0].0 >= 0.0 {
            for x in &mut x {
                *x = x.abs() + pairs[0].0;
            }
        }
        case(op_type, *version).input(floats(&x)).check();
    }
}

#[test]
fn nan_and_infinities_are_as_the_cpu_provider_has_them() {
    use std::f32::consts::LN_2;
    const X: [f32; 4] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0];
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    for (op_type, version, expected) in [
        ("Sign", 13, [NAN, 1.0, -1.0, 0.0]),
        ("Relu", 14, [NAN, INF, 0.0, 0.0]),
        ("LeakyRelu", 16, [NAN, INF, -INF, 0.0]),
        ("Elu", 22, [NAN, INF, -1.0, 0.0]),
        ("HardSigmoid", 22, [NAN, 1.0, 0.0, 0.5]),
        ("HardSwish", 22, [NAN, INF, NAN, 0.0]),
        ("Softplus", 22, [NAN, INF, 0.0, LN_2]),
        ("Softsign", 22, [NAN, NAN, NAN, 0.0]),
        ("ThresholdedRelu", 22, [0.0, INF, 0.0, 0.0]),
        ("Mish", 22, [NAN, INF, NAN, 0.0]),
        ("Gelu", 20, [NAN, INF, NAN, 0.0]),
        ("Sigmoid", 13, [NAN, 1.0, 0.0, 0.5]),
        ("Tanh", 13, [NAN, 1.0, -1.0, 0.0]),
        ("Erf", 13, [NAN, 1.0, -1.0, 0.0]),
        ("Reciprocal", 13, [NAN, 0.0, 0.0, -INF]),
        ("Sqrt", 13, [NAN, INF, NAN, 0.0]),
        ("Round", 22, [NAN, INF, -INF, 0.0]),
    ] {
        assert_same(
            op_type,
            &run(&case(op_type, version).input(floats(&X))),
            &expected,
        );
    }
}

#[test]
fn attributes_are_honoured() {
    let with = |op_type, version, attributes: &[(&str, f32)], x: f32| {
        let mut case = Case::new(op_type, version).input(HostTensor::f32([], &[x]));
        for (name, value) in attributes {
            case = case.attr(name, Attribute::Float(*value));
        }
        run(&case)[0]
    };
    assert_same("Elu", &[with("Elu", 6, &[("alpha", 2.0)], -1.0)], &[-1.264_241_1]);
    assert_same(
        "Selu",
        &[with("Selu", 6, &[("alpha", 2.0), ("gamma", 3.0)], -1.0)],
        &[-3.792_723_3],
    );
    assert_same(
        "LeakyRelu",
        &[with("LeakyRelu", 6, &[("alpha", 0.5)], -3.0)],
        &[-1.5],
    );
    let steep = [("alpha", 0.5), ("beta", 0.25)];
    assert_same("HardSigmoid", &[with("HardSigmoid", 6, &steep, 0.5)], &[0.5]);
    let shrink = [("lambd", 1.5), ("bias", 1.0)];
    assert_same(
        "Shrink",
        &[-2.0, 1.0, 3.0].map(|x| with("Shrink", 9, &shrink, x)),
        &[-1.0, 0.0, 2.0],
    );
    assert_same(
        "Swish",
        &[with("Swish", 24, &[("alpha", 2.0)], 1.0)],
        &[0.880_797_1],
    );
    assert_same(
        "ThresholdedRelu",
        &[with("ThresholdedRelu", 10, &[("alpha", 3.0)], 2.0)],
        &[0.0],
    );

    let tanh = Case::new("Gelu", 20).attr("approximate", Attribute::String("tanh".to_owned()));
    assert_same(
        "Gelu",
        &run(&tanh.input(floats(&[-1.0, 1.0]))),
        &[-0.158_808, 0.841_192],
    );
}

#[test]
fn unknown_attributes_are_refused() {
    let error = Case::new("Relu", 14)
        .attr("slope", Attribute::Float(1.0))
        .input(floats(&[1.0]))
        .refusal();
    assert!(error.to_string().contains("'slope'"), "{error}");
    let gelu = Case::new("Gelu", 20).attr("approximate", Attribute::String("erf".to_owned()));
    assert!(gelu.input(floats(&[1.0])).refusal().to_string().contains("'erf'"));
}

#[test]
fn predicates_give_bools() {
    let x = floats(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 1e38]);
    let run = |case: Case| {
        case.input(x.clone()).output(DType::Bool, 1).check()[0]
            .to_bool()
            .unwrap()
    };
    assert_eq!(run(Case::new("IsNaN", 20)), [true, false, false, false, false]);
    assert_eq!(run(Case::new("IsInf", 20)), [false, true, true, false, false]);
    let only_positive = Case::new("IsInf", 10).attr("detect_negative", Attribute::Int(0));
    assert_eq!(run(only_positive), [false, true, false, false, false]);
    let only_negative = Case::new("IsInf", 10).attr("detect_positive", Attribute::Int(0));
    assert_eq!(run(only_negative), [false, false, true, false, false]);
    let not = Case::new("Not", 1).input(HostTensor::bool([3], &[true, false, true]));
    assert_eq!(not.check()[0].to_bool().unwrap(), [false, true, false]);
}

#[test]
fn integers_have_functions_too() {
    let x = HostTensor::i64([5], &[-3, 0, 4, i64::MAX, i64::MIN]);
    let run = |op_type, version| {
        Case::new(op_type, version).input(x.clone()).check()[0]
            .to_i64()
            .unwrap()
    };
    assert_eq!(run("Abs", 13), [3, 0, 4, i64::MAX, i64::MIN]);
    assert_eq!(run("Neg", 13), [3, 0, -4, -i64::MAX, i64::MIN]);
    assert_eq!(run("Sign", 13), [-1, 0, 1, 1, -1]);
    assert_eq!(run("Relu", 14), [0, 0, 4, i64::MAX, 0]);
    assert_eq!(run("BitwiseNot", 18), [2, -1, -5, i64::MIN, i64::MAX]);

    let bytes = HostTensor::new(TensorType::new(DType::I8, [5]), vec![0x80, 0xff, 0, 1, 0x7f]);
    let abs = Case::new("Abs", 13).input(bytes.clone()).check();
    assert_eq!(abs[0].bytes(), [0x80, 1, 0, 1, 0x7f]);
    let bytes = HostTensor::new(TensorType::new(DType::U8, [3]), vec![0, 200, 255]);
    assert_eq!(Case::new("Sign", 13).input(bytes).check()[0].bytes(), [0, 1, 1]);
}

#[test]
fn every_length_and_rank_is_covered() {
    for shape in [
        &[][..],
        &[1],
        &[3],
        &[4],
        &[5],
        &[255],
        &[257],
        &[0],
        &[2, 0, 3],
        &[2, 3, 5, 7],
        &[1; 8],
    ] {
        let x = crate::testing::tensor(shape, 1);
        Case::new("Relu", 14).input(x).check();
    }
}

#[test]
fn silu_is_swish_with_alpha_one() {
    let x = floats(&[-1.0, 0.0, 3.0]);
    assert_same(
        "Silu",
        &run(&Case::fused("Silu").input(x)),
        &[-0.268_941_43, 0.0, 2.857_722_3],
    );
}
