//! Element types, shapes and tensors in host memory.

mod dtype;
mod host;

pub use dtype::DType;
pub use host::HostTensor;

/// Extent per axis, outermost first; row-major and dense. A scalar has no axes.
pub type Shape = Vec<usize>;

/// The most axes a tensor may have on the device (before a launcher merges adjacent ones).
pub const MAX_RANK: usize = 8;

/// Element type and concrete shape of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Extents, row-major.
    pub shape: Shape,
}

impl TensorType {
    /// A type from its parts.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Self {
            dtype,
            shape: shape.into(),
        }
    }

    /// Number of elements; 1 for a scalar, 0 if any extent is 0.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of the dense tensor.
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.size()
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}
