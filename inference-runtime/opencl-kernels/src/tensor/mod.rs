//! Element types, shapes and tensors in host memory.

mod compare;
mod dtype;
mod host;
mod sample;

pub use compare::{Tolerance, difference};
pub use dtype::DType;
pub use host::HostTensor;
pub use sample::{numbers, sample};

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

    /// Number of elements, or `None` where the extents' product does not fit: shapes come from strangers.
    pub fn checked_elements(&self) -> Option<usize> {
        // An empty tensor is empty whatever its other extents are.
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape
            .iter()
            .try_fold(1_usize, |product, &extent| product.checked_mul(extent))
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
