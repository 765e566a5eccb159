//! Cast and `CastLike`: converts every element to another type.

use half::{bf16, f16};

use super::attributes::only;
use super::map::Map;
use super::numbers::{INTEGERS, bool_tensor, float_tensor, floats, integer_tensor, integers};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Emitter, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "cast.cl",
    text: concat!(include_str!("cast.cl"), include_str!("broadcast.cl")),
};

/// Cast-6, CastLike-15 and later, among all types but double, which the device lacks.
///
/// Floats lose their fraction; those outside an integer type's range become what x86 makes of them (the smallest
/// int32 or int64, or the lower bits of those), which ONNX leaves open and ONNX Runtime's CPU kernels do.
#[derive(Debug, Clone, PartialEq)]
struct Cast {
    from: DType,
    to: DType,
}

/// Lowers Cast and `CastLike`.
pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    // `saturate` and `round_mode` are about 8-bit floats, which are not types of this crate.
    only(node, &["to", "saturate", "round_mode"])?;
    let to = if node.node().op_type == "CastLike" {
        node.dtype(1)?
    } else {
        target(node)?
    };
    let from = node.dtype(0)?;
    for dtype in [from, to] {
        if dtype == DType::F64 {
            return Err("the device has no double precision".to_owned());
        }
    }
    Ok(Box::new(Cast { from, to }))
}

/// The type that attribute `to` names, by its number in ONNX's `TensorProto.DataType`.
fn target(node: &NodeView<'_>) -> Result<DType, String> {
    let number = node.attributes().int("to").ok_or("attribute 'to' is missing")?;
    DType::from_onnx(number).ok_or_else(|| format!("data type {number} is not known"))
}

impl Cast {
    /// Whether the bytes stay what they are.
    fn keeps_bytes(&self) -> bool {
        let integers =
            INTEGERS.contains(&self.to) && (INTEGERS.contains(&self.from) || self.from == DType::Bool);
        self.from == self.to || (integers && self.from.size() == self.to.size())
    }

    /// The macro of `cast.cl` that reads an element.
    fn read(&self) -> &'static str {
        match self.from {
            DType::F16 => "HALF",
            DType::BF16 => "BFLOAT",
            _ => "PLAIN",
        }
    }

    /// The macro of `cast.cl` that makes the result.
    fn convert(&self) -> &'static str {
        match self.to {
            DType::Bool => "TO_BOOL",
            DType::F16 => "TO_HALF",
            DType::BF16 => "TO_BFLOAT",
            _ if !self.from.is_float() => "PLAIN",
            DType::I8 | DType::U8 | DType::I16 | DType::U16 | DType::I32 => "FLOAT_TO_INT",
            DType::U32 | DType::I64 => "FLOAT_TO_LONG",
            DType::U64 => "FLOAT_TO_ULONG",
            DType::F32 | DType::F64 => "PLAIN",
        }
    }
}

impl Operator for Cast {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let Some(Some(x)) = inputs.first() else {
            return Err("input 0 is missing".to_owned());
        };
        Ok(vec![TensorType::new(self.to, x.shape().clone())])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let Some(Some(x)) = inputs.first() else {
            return Err("input 0 is missing".to_owned());
        };
        let shape = x.shape();
        if self.from == self.to {
            return Ok(vec![(*x).clone()]);
        }
        Ok(vec![if self.from.is_float() {
            let values = wide_floats(x)?.into_iter();
            match self.to {
                DType::Bool => bool_tensor(shape, values.map(|x| x != 0.0)),
                to if to.is_float() => narrow_floats(to, shape, values),
                to => integer_tensor(to, shape, values.map(|x| truncate(x, to))),
            }
        } else {
            let values = integers(x)?.into_iter();
            match self.to {
                DType::Bool => bool_tensor(shape, values.map(|x| x != 0)),
                to if to.is_float() => narrow_floats(to, shape, values.map(|x| f64::from(x as f32))),
                to => integer_tensor(to, shape, values),
            }
        }])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        if self.keeps_bytes() {
            emitter.alias(0, 0);
            return Ok(());
        }
        let shape = emitter.output_type(0).shape.clone();
        let input = emitter.read(0);
        let output = emitter.write(0);
        let map = Map {
            source: SOURCE,
            options: vec![
                format!("-DFIRST={}", in_memory(self.from)),
                format!("-DRESULT={}", in_memory(self.to)),
                format!("-DREAD={}", self.read()),
                format!("-DCONVERT={}", self.convert()),
            ],
            parameters: [0.0; 2],
        };
        let operands = [(input.clone(), &*shape), (input.clone(), &shape), (input, &shape)];
        map.emit(emitter, (output, &shape), operands)
    }
}

/// OpenCL C's type for an element in memory; one that it does not know is so many bits.
fn in_memory(dtype: DType) -> &'static str {
    dtype.cl_name().unwrap_or(dtype.cl_mover())
}

/// The elements of a tensor of any float type but double.
fn wide_floats(tensor: &HostTensor) -> Result<Vec<f64>, Reason> {
    let halves = || tensor.bytes().as_chunks::<2>().0.iter().copied();
    match tensor.dtype() {
        DType::F16 => Ok(halves().map(|b| f16::from_le_bytes(b).to_f64()).collect()),
        DType::BF16 => Ok(halves().map(|b| bf16::from_le_bytes(b).to_f64()).collect()),
        _ => floats(tensor),
    }
}

/// A tensor of any float type but double, of numbers that float32 holds.
fn narrow_floats(dtype: DType, shape: &[usize], values: impl Iterator<Item = f64>) -> HostTensor {
    let bytes: Vec<u8> = match dtype {
        DType::F16 => values.flat_map(|x| f16::from_f64(x).to_le_bytes()).collect(),
        DType::BF16 => values.flat_map(|x| bf16::from_f64(x).to_le_bytes()).collect(),
        _ => return float_tensor(shape, values),
    };
    HostTensor::new(TensorType::new(dtype, shape), bytes)
}

/// The integer that x86 makes of a float: in the range of int32 (for types up to that size), int64 or uint64 the
/// number without its fraction, outside it the smallest one.
fn truncate(x: f64, to: DType) -> i128 {
    let two_to_the = |power: i32| 2.0_f64.powi(power);
    let within = |low: f64, high: f64| x >= low && x < high;
    match to {
        DType::U32 | DType::I64 | DType::U64 => {
            if within(-two_to_the(63), two_to_the(63)) || (to == DType::U64 && within(0.0, two_to_the(64))) {
                x as i128
            } else {
                i128::from(i64::MIN)
            }
        }
        _ if within(-two_to_the(31), two_to_the(31)) => x as i128,
        _ => i128::from(i32::MIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Attribute;
    use crate::testing::{Case, numbers};

    /// Every type that can be cast, with its number in ONNX.
    const TYPES: [(DType, i64); 12] = [
        (DType::F32, 1),
        (DType::U8, 2),
        (DType::I8, 3),
        (DType::U16, 4),
        (DType::I16, 5),
        (DType::I32, 6),
        (DType::I64, 7),
        (DType::Bool, 9),
        (DType::F16, 10),
        (DType::U32, 12),
        (DType::U64, 13),
        (DType::BF16, 16),
    ];

    fn cast(x: HostTensor, to: DType) -> HostTensor {
        let number = TYPES.iter().find(|(dtype, _)| *dtype == to).unwrap().1;
        let rank = x.shape().len();
        let case = Case::new("Cast", 13)
            .attr("to", Attribute::Int(number))
            .input(x)
            .output(to, rank);
        case.check().remove(0)
    }

    fn floats(values: &[f32]) -> HostTensor {
        HostTensor::f32([values.len()], values)
    }

    #[test]
    fn every_type_is_read_and_written() {
        let small = floats(&[0.0, 1.0, 2.0, 3.5, 100.0, 127.0, -0.0, 0.25]);
        for (dtype, _) in TYPES {
            let x = cast(small.clone(), dtype);
            for to in [DType::F32, DType::I64, DType::F16] {
                cast(x.clone(), to);
            }
        }
    }

    #[test]
    fn floats_lose_their_fraction() {
        let x = floats(&[3.9, -3.9, 0.5, -0.5, 300.0, -1.0, 128.0]);
        assert_eq!(
            cast(x.clone(), DType::I32).to_i32().unwrap(),
            [3, -3, 0, 0, 300, -1, 128]
        );
        assert_eq!(
            cast(x.clone(), DType::I64).to_i64().unwrap(),
            [3, -3, 0, 0, 300, -1, 128]
        );
        assert_eq!(cast(x.clone(), DType::U8).bytes(), [3, 253, 0, 0, 44, 255, 128]);
        let truths = [true, true, true, true, true, true, true];
        assert_eq!(cast(x, DType::Bool).to_bool().unwrap(), truths);
    }

    #[test]
    fn floats_out_of_range_are_what_the_cpu_provider_makes_of_them() {
        let x = floats(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e9, -3e9, 1e20]);
        assert_eq!(cast(x.clone(), DType::I32).to_i32().unwrap(), [i32::MIN; 6]);
        let min = i64::MIN;
        let expected = [min, min, min, 3_000_000_000, -3_000_000_000, min];
        assert_eq!(cast(x.clone(), DType::I64).to_i64().unwrap(), expected);
        assert_eq!(cast(x.clone(), DType::I8).bytes(), [0; 6]);
        assert_eq!(cast(x.clone(), DType::U16).bytes(), [0; 12]);
        assert_eq!(integers(&cast(x.clone(), DType::U32)).unwrap()[3], 3_000_000_000);
        assert_eq!(
            integers(&cast(floats(&[1e19]), DType::U64)).unwrap()[0],
            9_999_999_980_506_447_872
        );
        assert_eq!(cast(x, DType::Bool).to_bool().unwrap(), [true; 6]);
    }

    #[test]
    fn integers_wrap_and_become_the_nearest_float() {
        let x = HostTensor::i64([4], &[(1 << 40) + 5, -1, 300, (1 << 24) + 1]);
        assert_eq!(
            cast(x.clone(), DType::I32).to_i32().unwrap(),
            [5, -1, 300, (1 << 24) + 1]
        );
        assert_eq!(cast(x.clone(), DType::U8).bytes(), [5, 255, 44, 1]);
        let expected = [1_099_511_627_781_f32, -1.0, 300.0, 16_777_216.0];
        assert_eq!(cast(x, DType::F32).to_f32().unwrap(), expected);
        let largest = integer_tensor(DType::U64, [1], [u64::MAX.into()]);
        assert_eq!(
            cast(largest, DType::F32).to_f32().unwrap(),
            [18_446_744_073_709_551_616.0]
        );
    }

    #[test]
    fn bools_are_one_and_zero() {
        let x = HostTensor::i32([4], &[2, 0, -1, 256]);
        assert_eq!(cast(x, DType::Bool).bytes(), [1, 0, 1, 1]);
        let x = HostTensor::bool([2], &[true, false]);
        assert_eq!(cast(x.clone(), DType::F32).to_f32().unwrap(), [1.0, 0.0]);
        assert_eq!(cast(x, DType::I64).to_i64().unwrap(), [1, 0]);
    }

    #[test]
    fn halves_round_to_even_and_overflow_to_infinity() {
        let x = floats(&[
            1.000_976_6,
            2049.0,
            65_519.0,
            65_520.0,
            1e-8,
            -0.0,
            f32::NAN,
            5.9e-8,
        ]);
        let halves = cast(x, DType::F16);
        let back = cast(halves, DType::F32).to_f32().unwrap();
        assert_eq!(
            back[..6],
            [1.000_976_6, 2048.0, 65_504.0, f32::INFINITY, 0.0, 0.0]
        );
        assert!(back[6].is_nan());
        assert_eq!(back[7].to_bits(), 5.960_464_5e-8_f32.to_bits());
    }

    #[test]
    fn brain_floats_round_to_even() {
        let x = floats(&[
            1.0,
            1.003_906_3,
            1.011_718_8,
            f32::NAN,
            f32::INFINITY,
            f32::MAX,
            -2.5,
        ]);
        let back = cast(cast(x, DType::BF16), DType::F32).to_f32().unwrap();
        assert_eq!(back[..3], [1.0, 1.0, 1.015_625]);
        assert!(back[3].is_nan());
        assert_eq!(back[4..], [f32::INFINITY, f32::INFINITY, -2.5]);
        let random: Vec<f32> = numbers(300, 1).iter().map(|x| x * 1e3).collect();
        cast(floats(&random), DType::BF16);
    }

    #[test]
    fn cast_like_takes_the_second_type() {
        let like = HostTensor::i32([1], &[7]);
        let case = Case::new("CastLike", 19)
            .input(floats(&[1.5, -2.5]))
            .input(like)
            .output(DType::I32, 1);
        assert_eq!(case.check()[0].to_i32().unwrap(), [1, -2]);
    }

    #[test]
    fn doubles_and_strings_are_refused() {
        for (number, reason) in [(11, "double"), (8, "data type 8"), (17, "data type 17")] {
            let case = Case::new("Cast", 13)
                .attr("to", Attribute::Int(number))
                .input(floats(&[1.0]));
            let error = case.refusal().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
