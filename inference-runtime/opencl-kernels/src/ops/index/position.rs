//! Indices as data: their types, their range, how kernels read them.

use crate::ops::{NodeView, Reason};
use crate::tensor::{DType, HostTensor};

/// The element types of indices that a kernel reads.
pub(super) const INDEX_TYPES: [DType; 2] = [DType::I32, DType::I64];

/// Refuses indices of other types.
pub(super) fn require_indices(view: &NodeView<'_>, input: usize) -> Result<(), String> {
    view.require_dtype(input, &INDEX_TYPES).map(drop)
}

/// The build option that sets the type of indices.
pub(super) fn index_option(dtype: DType) -> String {
    let name = if dtype == DType::I32 { "int" } else { "long" };
    format!("-DINDEX={name}")
}

/// Indices as integers, for CPU references.
pub(super) fn integers(indices: &HostTensor) -> Result<Vec<i64>, Reason> {
    indices
        .to_i64()
        .ok_or_else(|| format!("indices of type {}", indices.ty()))
}

/// What `checked_index` of `prelude.cl` computes.
pub(super) fn checked(index: i64, length: usize) -> Result<usize, Reason> {
    let position = if index < 0 {
        index.checked_add(length as i64)
    } else {
        Some(index)
    };
    position
        .and_then(|position| usize::try_from(position).ok())
        .filter(|position| *position < length)
        .ok_or_else(|| format!("index {index} is out of range for an axis of length {length}"))
}

#[cfg(test)]
mod tests {
    use super::checked;

    #[test]
    fn indices_count_from_both_ends_and_end_there() {
        assert_eq!(checked(0, 3), Ok(0));
        assert_eq!(checked(-1, 3), Ok(2));
        assert_eq!(checked(-3, 3), Ok(0));
        let refused = |index| format!("index {index} is out of range for an axis of length 3");
        for index in [3, -4, i64::MAX, i64::MIN] {
            assert_eq!(checked(index, 3), Err(refused(index)));
        }
    }
}
