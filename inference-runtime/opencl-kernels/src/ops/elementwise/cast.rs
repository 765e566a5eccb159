//! Cast and CastLike: converts every element to another type.

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

/// Lowers Cast and CastLike.
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
    Ok(match node.attributes().int("to").ok_or("attribute 'to' is missing")? {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        other => return Err(format!("data type {other} is not known")),
    })
}

impl Cast {
    /// Whether the bytes stay what they are.
    fn keeps_bytes(&self) -> bool {
        let integers = INTEGERS.contains(&self.to) && (INTEGERS.contains(&self.from) || self.from == DType::Bool);
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
