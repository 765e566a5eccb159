//! Functions of two operands: values, broadcasting through every kernel, types, edges of integers.

use proptest::prelude::*;

use crate::ir::Attribute;
use crate::ops::elementwise::numbers::{INTEGERS, integer_tensor, integers};
use crate::tensor::{DType, HostTensor};
use crate::testing::{Case, tensor};

fn floats(values: &[f32]) -> HostTensor {
    HostTensor::f32([values.len()], values)
}

fn of_floats(op_type: &str, version: i32, a: &[f32], b: &[f32]) -> Vec<f32> {
    let case = Case::new(op_type, version).input(floats(a)).input(floats(b));
    case.within(1e-6, 1e-6).check()[0].to_f32().unwrap()
}

fn of_i64(case: Case, a: &[i64], b: &[i64]) -> Vec<i64> {
    let (a, b) = (HostTensor::i64([a.len()], a), HostTensor::i64([b.len()], b));
    case.input(a).input(b).check()[0].to_i64().unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    // One NaN is as good as another.
    values
        .iter()
        .map(|v| {
            if v.is_nan() {
                f32::NAN.to_bits()
            } else {
                v.to_bits()
            }
        })
        .collect()
}

#[test]
fn arithmetic_of_floats() {
    let (a, b) = ([7.0, -7.5, 0.0, 1.0], [2.0, 2.5, -4.0, 0.0]);
    assert_eq!(of_floats("Add", 14, &a, &b), [9.0, -5.0, -4.0, 1.0]);
    assert_eq!(of_floats("Sub", 14, &a, &b), [5.0, -10.0, 4.0, 1.0]);
    assert_eq!(of_floats("Mul", 7, &a, &b), [14.0, -18.75, 0.0, 0.0]);
    assert_eq!(of_floats("Div", 13, &a, &b), [3.5, -3.0, 0.0, f32::INFINITY]);
}

#[test]
fn powers() {
    let (a, b) = (
        [-2.0, 2.0, 0.0, f32::NAN, 1.0, -2.0],
        [3.0, -1.0, 0.0, 0.0, f32::NAN, 0.5],
    );
    let y = of_floats("Pow", 15, &a, &b);
    assert_eq!(y[..5], [-8.0, 0.5, 1.0, 1.0, 1.0]);
    assert!(y[5].is_nan());

    let base = floats(&[-2.0, 2.0, 0.5, 3.0]);
    let by_integers = Case::new("Pow", 12)
        .input(base)
        .input(HostTensor::i64([4], &[3, -1, 2, 0]))
        .check();
    assert_eq!(by_integers[0].to_f32().unwrap(), [-8.0, 0.5, 0.25, 1.0]);

    let y = of_i64(
        Case::new("Pow", 15),
        &[2, 3, -2, 1, -1, -1, 5],
        &[10, -1, 3, -7, -7, -8, 0],
    );
    assert_eq!(y, [1024, 0, -8, 1, -1, 1, 1]);
}

#[test]
fn squares_and_cubes_are_exact_where_the_exponent_is_known() {
    let x = tensor(&[3, 5], 1);
    let values = x.to_f32().unwrap();
    let square = Case::new("Pow", 15)
        .input(x.clone())
        .constant(HostTensor::f32([], &[2.0]))
        .check();
    let expected: Vec<f32> = values.iter().map(|x| x * x).collect();
    assert_eq!(bits(&square[0].to_f32().unwrap()), bits(&expected));
    let cube = Case::new("Pow", 15)
        .input(x)
        .constant(HostTensor::i64([1, 1], &[3]))
        .within(0.0, 3e-7);
    cube.check();
}

#[test]
fn a_known_exponent_that_enlarges_the_base_still_broadcasts() {
    let case = Case::new("Pow", 15)
        .input(HostTensor::f32([], &[3.0]))
        .constant(HostTensor::f32([1], &[2.0]));
    let y = case.output(DType::F32, 1).check();
    assert_eq!((y[0].shape(), y[0].to_f32().unwrap()), (&[1][..], vec![9.0]));
}

#[test]
fn remainders_take_the_sign_that_fmod_says() {
    let floor = || Case::new("Mod", 13);
    let truncated = || Case::new("Mod", 13).attr("fmod", Attribute::Int(1));
    let (a, b) = ([5, -5, 5, -5, 6, i64::MIN], [3, 3, -3, -3, -3, -1]);
    assert_eq!(of_i64(floor(), &a, &b), [2, 1, -1, -2, 0, 0]);
    assert_eq!(of_i64(truncated(), &a, &b), [2, -2, 2, -2, 0, 0]);

    let (a, b) = (
        floats(&[5.5, -5.5, f32::INFINITY, 5.0]),
        floats(&[3.0, 3.0, 1.0, f32::INFINITY]),
    );
    let y = truncated().input(a).input(b).check()[0].to_f32().unwrap();
    assert_eq!(bits(&y), bits(&[2.5, -2.5, f32::NAN, 5.0]));
}

#[test]
fn remainders_of_floats_may_be_floored_from_version_28() {
    // The special cases that ONNX's Mod-28 lists.
    const INF: f32 = f32::INFINITY;
    let a = [5.5, -5.5, 5.5, 0.0, -0.0, INF, 1.0, 1.0, -1.0, f32::NAN];
    let b = [3.0, 3.0, -3.0, -2.0, 2.0, 1.0, 0.0, INF, INF, 1.0];
    let y = of_floats("Mod", 28, &a, &b);
    let expected = [2.5, 0.5, -0.5, -0.0, 0.0, f32::NAN, f32::NAN, 1.0, INF, f32::NAN];
    assert_eq!(bits(&y), bits(&expected));

    let error = Case::new("Mod", 13)
        .input(floats(&[1.0]))
        .input(floats(&[1.0]))
        .refusal();
    assert!(error.to_string().contains("fmod = 1"), "{error}");
}

#[test]
fn integer_division_truncates_and_never_traps() {
    let (a, b) = ([7, -7, 7, -7, 1, 0, i64::MIN], [2, 2, -2, -2, 0, 0, -1]);
    assert_eq!(
        of_i64(Case::new("Div", 14), &a, &b),
        [3, -3, -3, 3, 0, 0, i64::MIN]
    );
    for dtype in INTEGERS {
        let a = integer_tensor(dtype, [4], [100, 0, 1, 7]);
        let zeros = integer_tensor(dtype, [4], [0; 4]);
        for (op_type, version) in [("Div", 14), ("Mod", 13)] {
            let y = Case::new(op_type, version)
                .input(a.clone())
                .input(zeros.clone())
                .check();
            assert_eq!(integers(&y[0]).unwrap(), [0; 4], "{op_type} of {dtype}");
        }
        let lowest = if matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64) {
            -(1_i128 << (8 * dtype.size() - 1))
        } else {
            0
        };
        let a = integer_tensor(dtype, [1], [lowest]);
        let y = Case::new("Div", 14)
            .input(a.clone())
            .input(integer_tensor(dtype, [1], [-1]))
            .check();
        assert_eq!(integers(&y[0]).unwrap(), [lowest], "{dtype}");
    }
}

#[test]
fn integers_wrap_around() {
    for dtype in INTEGERS {
        let largest = integers(&integer_tensor(dtype, [1], [i128::MAX])).unwrap()[0];
        let a = integer_tensor(dtype, [3], [largest, 3, 100]);
        let b = integer_tensor(dtype, [3], [1, 5, 100]);
        for op_type in ["Add", "Sub", "Mul"] {
            Case::new(op_type, 14).input(a.clone()).input(b.clone()).check();
        }
    }
    assert_eq!(of_i64(Case::new("Add", 14), &[i64::MAX], &[1]), [i64::MIN]);
    assert_eq!(of_i64(Case::new("Mul", 14), &[1 << 40], &[1 << 40]), [0]);
}

#[test]
fn nan_wins_in_min_and_max() {
    const NAN: f32 = f32::NAN;
    let (a, b) = ([NAN, 1.0, NAN, 3.0], [1.0, NAN, NAN, -4.0]);
    assert_eq!(bits(&of_floats("Max", 13, &a, &b)), bits(&[NAN, NAN, NAN, 3.0]));
    assert_eq!(bits(&of_floats("Min", 13, &a, &b)), bits(&[NAN, NAN, NAN, -4.0]));
}

#[test]
fn comparisons_and_logic_give_bools() {
    let a = floats(&[1.0, 2.0, 3.0, f32::NAN, 0.0]);
    let b = floats(&[2.0, 2.0, 2.0, f32::NAN, -0.0]);
    for (op_type, version, expected) in [
        ("Equal", 19, [false, true, false, false, true]),
        ("Greater", 13, [false, false, true, false, false]),
        ("GreaterOrEqual", 16, [false, true, true, false, true]),
        ("Less", 13, [true, false, false, false, false]),
        ("LessOrEqual", 16, [true, true, false, false, true]),
    ] {
        let case = Case::new(op_type, version)
            .input(a.clone())
            .input(b.clone())
            .output(DType::Bool, 1);
        assert_eq!(case.check()[0].to_bool().unwrap(), expected, "{op_type}");
    }
    let a = HostTensor::bool([4], &[false, false, true, true]);
    let b = HostTensor::bool([4], &[false, true, false, true]);
    for (op_type, version, expected) in [
        ("And", 7, [false, false, false, true]),
        ("Or", 7, [false, true, true, true]),
        ("Xor", 7, [false, true, true, false]),
        ("Equal", 11, [true, false, false, true]),
    ] {
        let case = Case::new(op_type, version).input(a.clone()).input(b.clone());
        assert_eq!(case.check()[0].to_bool().unwrap(), expected, "{op_type}");
    }
}

#[test]
fn comparisons_of_integers_know_the_sign() {
    for dtype in INTEGERS {
        let a = integer_tensor(dtype, [3], [-1, 1, 5]);
        let b = integer_tensor(dtype, [3], [1, 1, 4]);
        for op_type in ["Greater", "Less", "Equal"] {
            let case = Case::new(op_type, 13).input(a.clone()).input(b.clone());
            case.output(DType::Bool, 1).check();
        }
        for op_type in ["Min", "Max"] {
            Case::new(op_type, 13).input(a.clone()).input(b.clone()).check();
        }
    }
}

#[test]
fn bits_are_shifted_out_and_combined() {
    let shift = |dtype, direction: &str, a: i128, b: i128| {
        let case = Case::new("BitShift", 11).attr("direction", Attribute::String(direction.to_owned()));
        let case = case
            .input(integer_tensor(dtype, [1], [a]))
            .input(integer_tensor(dtype, [1], [b]));
        integers(&case.check()[0]).unwrap()[0]
    };
    for dtype in [DType::U8, DType::U16, DType::U32, DType::U64] {
        let width = 8 * dtype.size() as i128;
        assert_eq!(shift(dtype, "LEFT", 3, 2), 12);
        assert_eq!(shift(dtype, "LEFT", 3, width), 0);
        assert_eq!(shift(dtype, "RIGHT", 200, 3), 25);
        assert_eq!(shift(dtype, "RIGHT", 200, width), 0);
    }
    assert_eq!(of_i64(Case::new("BitwiseAnd", 18), &[12, -1], &[10, 7]), [8, 7]);
    assert_eq!(of_i64(Case::new("BitwiseOr", 18), &[12, -8], &[10, 7]), [14, -1]);
    assert_eq!(of_i64(Case::new("BitwiseXor", 18), &[12, -1], &[10, 7]), [6, -8]);
}

#[test]
fn prelu_slopes_below_zero() {
    let x = HostTensor::f32([2, 3], &[-1.0, 2.0, f32::NAN, -4.0, -0.0, 6.0]);
    let slope = HostTensor::f32([2, 1], &[0.5, 0.25]);
    let y = Case::new("PRelu", 16).input(x.clone()).input(slope).check();
    assert_eq!(
        bits(&y[0].to_f32().unwrap()),
        bits(&[-0.5, 2.0, f32::NAN, -1.0, -0.0, 6.0])
    );
    let error = Case::new("PRelu", 16)
        .input(x)
        .input(tensor(&[2, 2, 3], 1))
        .refusal();
    assert!(error.to_string().contains("slope"), "{error}");
}

#[test]
fn shapes_that_do_not_broadcast_are_refused() {
    let error = Case::new("Add", 14)
        .input(tensor(&[2, 3], 1))
        .input(tensor(&[2], 2))
        .refusal();
    assert!(error.to_string().contains("[[2, 3], [2]]"), "{error}");
}

#[test]
fn types_that_do_not_fit_are_refused() {
    let mixed = Case::new("Add", 14)
        .input(floats(&[1.0]))
        .input(HostTensor::i64([1], &[1]));
    assert!(mixed.refusal().to_string().contains("float32 and int64"));
    let power = Case::new("Pow", 15)
        .input(HostTensor::i64([1], &[1]))
        .input(floats(&[1.0]));
    assert!(power.refusal().to_string().contains("int64 and float32"));
    let and = Case::new("And", 7).input(floats(&[1.0])).input(floats(&[1.0]));
    assert!(and.refusal().to_string().contains("float32 and float32"));
}

/// One pair for each way a kernel walks: flat (equal, scalar), rows (up to three axes), any.
#[test]
fn every_kernel_of_broadcasting_is_right() {
    let pairs: [(&[usize], &[usize]); 14] = [
        (&[4, 67], &[4, 67]),
        (&[257], &[]),
        (&[], &[130]),
        (&[], &[]),
        (&[5, 66], &[66]),
        (&[5, 66], &[5, 1]),
        (&[3, 1], &[1, 33]),
        (&[2, 3, 5, 7], &[3, 1, 1]),
        (&[2, 1, 4, 40], &[2, 3, 4, 1]),
        (&[2, 3, 4, 5], &[2, 1, 4, 1]),
        (&[7, 3], &[3]),
        (&[3, 1, 2, 1, 2, 1, 3, 1], &[1, 2, 1, 3, 1, 2, 1, 2]),
        (&[0, 3], &[3]),
        (&[1], &[0]),
    ];
    for (a, b) in pairs {
        let rank = a.len().max(b.len());
        // Subtraction tells its operands apart.
        let case = Case::new("Sub", 14).input(tensor(a, 1)).input(tensor(b, 2));
        case.output(DType::F32, rank).within(0.0, 0.0).check();
        let case = Case::new("Less", 13).input(tensor(a, 3)).input(tensor(b, 4));
        case.output(DType::Bool, rank).check();
    }
}

fn pair() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    let axis = (
        prop_oneof![1 => Just(0_usize), 8 => 1..5_usize, 2 => 30..70_usize],
        0..3,
    );
    let pairs = proptest::collection::vec(axis, 0..=5).prop_map(|axes| {
        let side = |shrunk: i32| -> Vec<usize> {
            axes.iter()
                .map(|&(extent, ones)| if ones == shrunk { 1 } else { extent })
                .collect()
        };
        (side(1), side(2))
    });
    (pairs, 0..3_usize, any::<bool>()).prop_map(|((a, b), drop, first)| {
        // Leading axes may be missing on one side.
        let drop = drop.min(a.len());
        if first {
            (a[drop..].to_vec(), b)
        } else {
            (a, b[drop..].to_vec())
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_two_shapes_that_broadcast_do((a, b) in pair()) {
        let count = crate::ops::elementwise::broadcast::broadcast(&[&a, &b]).unwrap().iter().product::<usize>();
        prop_assume!(count < 100_000);
        let rank = a.len().max(b.len());
        let case = Case::new("Sub", 14).input(tensor(&a, 1)).input(tensor(&b, 2));
        case.output(DType::F32, rank).within(0.0, 0.0).check();
    }
}
