//! A dense tensor in host memory.

use std::sync::Arc;

use super::{DType, Shape, TensorType};

/// A dense, row-major tensor in host memory. Cheap to clone: the bytes are shared.
#[derive(Clone, PartialEq)]
pub struct HostTensor {
    ty: TensorType,
    bytes: Arc<[u8]>,
}

impl HostTensor {
    /// A tensor over bytes in little-endian element order.
    ///
    /// # Panics
    /// If the length of `bytes` is not what `ty` says: a caller's mistake that must not travel to a device.
    pub fn new(ty: TensorType, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        assert_eq!(
            bytes.len(),
            ty.bytes(),
            "tensor of type {ty} over {} bytes",
            bytes.len()
        );
        Self { ty, bytes }
    }

    /// A tensor that has a type but no elements to read: what an operator that looks only at shapes
    /// ([`reads_only_shapes`](crate::ops::Operator::reads_only_shapes)) is evaluated with.
    pub(crate) fn hollow(ty: TensorType) -> Self {
        Self {
            ty,
            bytes: Arc::from([]),
        }
    }

    /// A tensor whose elements are all zero (or false).
    pub fn zeros(ty: TensorType) -> Self {
        let bytes = vec![0; ty.bytes()];
        Self::new(ty, bytes)
    }

    /// A float32 tensor.
    pub fn f32(shape: impl Into<Shape>, values: &[f32]) -> Self {
        Self::new(
            TensorType::new(DType::F32, shape),
            values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(),
        )
    }

    /// An int64 tensor.
    pub fn i64(shape: impl Into<Shape>, values: &[i64]) -> Self {
        Self::new(
            TensorType::new(DType::I64, shape),
            values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(),
        )
    }

    /// An int32 tensor.
    pub fn i32(shape: impl Into<Shape>, values: &[i32]) -> Self {
        Self::new(
            TensorType::new(DType::I32, shape),
            values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(),
        )
    }

    /// A bool tensor.
    pub fn bool(shape: impl Into<Shape>, values: &[bool]) -> Self {
        Self::new(
            TensorType::new(DType::Bool, shape),
            values.iter().map(|&v| u8::from(v)).collect::<Vec<_>>(),
        )
    }

    /// Type and shape.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// Extents.
    pub fn shape(&self) -> &[usize] {
        &self.ty.shape
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.ty.dtype
    }

    /// The raw little-endian elements.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The elements as float32, if that is their type.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        (self.dtype() == DType::F32).then(|| self.chunks().map(f32::from_le_bytes).collect())
    }

    /// The elements as int64, if they are int64 or int32: what shape arguments are made of.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match self.dtype() {
            DType::I64 => Some(self.chunks().map(i64::from_le_bytes).collect()),
            DType::I32 => Some(self.chunks().map(|c| i64::from(i32::from_le_bytes(c))).collect()),
            _ => None,
        }
    }

    /// The elements as int32, if that is their type.
    pub fn to_i32(&self) -> Option<Vec<i32>> {
        (self.dtype() == DType::I32).then(|| self.chunks().map(i32::from_le_bytes).collect())
    }

    /// The elements as bool, if that is their type.
    pub fn to_bool(&self) -> Option<Vec<bool>> {
        (self.dtype() == DType::Bool).then(|| self.bytes.iter().map(|&b| b != 0).collect())
    }

    /// The same elements under another shape of equal size.
    ///
    /// # Panics
    /// If the number of elements differs.
    #[must_use]
    pub fn reshaped(&self, shape: impl Into<Shape>) -> Self {
        Self::new(TensorType::new(self.dtype(), shape), Arc::clone(&self.bytes))
    }

    fn chunks<const N: usize>(&self) -> impl Iterator<Item = [u8; N]> + '_ {
        self.bytes.as_chunks::<N>().0.iter().copied()
    }
}

impl std::fmt::Debug for HostTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostTensor({})", self.ty)
    }
}
