//! Elements as numbers in host memory: what the CPU references calculate with.
//!
//! Floats become `f64` and integers `i128`, so that a reference is exact until it rounds once, at the end.

use crate::ops::Reason;
use crate::tensor::{DType, HostTensor, Shape, TensorType};

/// The elements of a float32 tensor.
pub(in crate::ops) fn floats(tensor: &HostTensor) -> Result<Vec<f64>, Reason> {
    let values = tensor
        .to_f32()
        .ok_or_else(|| format!("expected float32, got {}", tensor.ty()))?;
    Ok(values.into_iter().map(f64::from).collect())
}

/// A float32 tensor, each element rounded to nearest.
pub(in crate::ops) fn float_tensor(
    shape: impl Into<Shape>,
    values: impl IntoIterator<Item = f64>,
) -> HostTensor {
    let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
    HostTensor::f32(shape, &values)
}

/// The elements of an integer or bool tensor.
pub(in crate::ops) fn integers(tensor: &HostTensor) -> Result<Vec<i128>, Reason> {
    fn read<const N: usize>(bytes: &[u8], from: impl Fn([u8; N]) -> i128) -> Vec<i128> {
        bytes
            .as_chunks::<N>()
            .0
            .iter()
            .map(|chunk| from(*chunk))
            .collect()
    }
    let bytes = tensor.bytes();
    Ok(match tensor.dtype() {
        DType::I8 => read(bytes, |b| i8::from_le_bytes(b).into()),
        DType::I16 => read(bytes, |b| i16::from_le_bytes(b).into()),
        DType::I32 => read(bytes, |b| i32::from_le_bytes(b).into()),
        DType::I64 => read(bytes, |b| i64::from_le_bytes(b).into()),
        DType::U8 | DType::Bool => read(bytes, |b| u8::from_le_bytes(b).into()),
        DType::U16 => read(bytes, |b| u16::from_le_bytes(b).into()),
        DType::U32 => read(bytes, |b| u32::from_le_bytes(b).into()),
        DType::U64 => read(bytes, |b| u64::from_le_bytes(b).into()),
        DType::F32 | DType::F16 | DType::BF16 | DType::F64 => {
            return Err(format!("expected integers, got {}", tensor.ty()));
        }
    })
}

/// An integer or bool tensor; numbers too large for the type wrap around.
pub(in crate::ops) fn integer_tensor(
    dtype: DType,
    shape: impl Into<Shape>,
    values: impl IntoIterator<Item = i128>,
) -> HostTensor {
    // Two's complement: the lower bytes are the wrapped number, whatever the sign.
    let size = dtype.size();
    let bytes: Vec<u8> = values
        .into_iter()
        .flat_map(|v| v.to_le_bytes().into_iter().take(size))
        .collect();
    HostTensor::new(TensorType::new(dtype, shape), bytes)
}

/// A bool tensor.
pub(in crate::ops) fn bool_tensor(
    shape: impl Into<Shape>,
    values: impl IntoIterator<Item = bool>,
) -> HostTensor {
    HostTensor::bool(shape, &values.into_iter().collect::<Vec<_>>())
}

/// Integer types that kernels calculate with.
pub(in crate::ops) const INTEGERS: [DType; 8] = [
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
];

/// Whether numbers of this type have a sign.
pub(in crate::ops) fn is_signed(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64) || dtype.is_float()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive_the_round_trip_in_every_type() {
        for dtype in INTEGERS {
            let values = if is_signed(dtype) {
                [-128, -1, 0, 127]
            } else {
                [0, 1, 128, 255]
            };
            let tensor = integer_tensor(dtype, [4], values);
            assert_eq!(integers(&tensor).unwrap(), values, "{dtype}");
        }
    }

    #[test]
    fn integers_wrap() {
        let wrapped = integer_tensor(DType::U8, [3], [256, -1, 300]);
        assert_eq!(wrapped.bytes(), [0, 255, 44]);
        let wrapped = integer_tensor(DType::I32, [1], [i128::from(i32::MAX) + 1]);
        assert_eq!(wrapped.to_i32().unwrap(), [i32::MIN]);
    }

    #[test]
    fn floats_are_not_integers() {
        assert!(integers(&HostTensor::f32([1], &[1.0])).is_err());
        assert!(floats(&HostTensor::i64([1], &[1])).is_err());
    }
}
