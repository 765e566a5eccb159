//! Moving elements of any type one by one in host memory: what the CPU references are written with.

use crate::tensor::{HostTensor, TensorType};

/// A tensor under construction, element by element, whatever their type.
#[derive(Debug)]
pub(in crate::ops) struct Elements {
    ty: TensorType,
    bytes: Vec<u8>,
}

impl Elements {
    /// All elements zero.
    pub(in crate::ops) fn zeroed(ty: TensorType) -> Self {
        let bytes = vec![0; ty.bytes()];
        Self { ty, bytes }
    }

    /// A copy of a tensor, to be changed.
    pub(in crate::ops) fn copied(source: &HostTensor) -> Self {
        Self {
            ty: source.ty().clone(),
            bytes: source.bytes().to_vec(),
        }
    }

    /// Sets the element at position `to` to the element at position `from` of `source`; positions are row-major.
    pub(in crate::ops) fn set(&mut self, to: usize, source: &HostTensor, from: usize) {
        let size = self.ty.dtype.size();
        debug_assert_eq!(size, source.dtype().size(), "elements of one size");
        self.bytes[to * size..][..size].copy_from_slice(&source.bytes()[from * size..][..size]);
    }

    /// The finished tensor.
    pub(in crate::ops) fn finish(self) -> HostTensor {
        HostTensor::new(self.ty, self.bytes)
    }
}

/// Builds a tensor whose element at each index is `source`'s element at the index that `locate` fills in.
pub(in crate::ops) fn pick(
    ty: TensorType,
    source: &HostTensor,
    mut locate: impl FnMut(&[usize], &mut [usize]),
) -> HostTensor {
    let shape = ty.shape.clone();
    let mut elements = Elements::zeroed(ty);
    let mut from = vec![0; source.shape().len()];
    for_each_index(&shape, |to, index| {
        locate(index, &mut from);
        elements.set(to, source, position(source.shape(), &from));
    });
    elements.finish()
}

/// Calls `visit(position, index)` for every index of a dense tensor in row-major order.
pub(in crate::ops) fn for_each_index(shape: &[usize], mut visit: impl FnMut(usize, &[usize])) {
    let mut index = vec![0; shape.len()];
    for linear in 0..shape.iter().product() {
        visit(linear, &index);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// Row-major position of an index.
pub(in crate::ops) fn position(shape: &[usize], index: &[usize]) -> usize {
    debug_assert!(
        index.iter().zip(shape).all(|(i, extent)| i < extent),
        "index {index:?} of {shape:?}"
    );
    index.iter().zip(shape).fold(0, |at, (i, extent)| at * extent + i)
}

/// Row-major strides in elements.
pub(in crate::ops) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// A tensor whose elements tell where they are: their position as float32, or as a pattern of another type's size.
#[cfg(test)]
pub(in crate::ops) fn numbered(dtype: crate::tensor::DType, shape: &[usize]) -> HostTensor {
    let ty = TensorType::new(dtype, shape);
    let element = |i: usize| match dtype {
        crate::tensor::DType::F32 => (i as f32).to_le_bytes().to_vec(),
        _ => (i as u64).wrapping_mul(0x0101_0101_0101_0101).to_le_bytes()[..dtype.size()].to_vec(),
    };
    let bytes: Vec<u8> = (0..ty.elements()).flat_map(element).collect();
    HostTensor::new(ty, bytes)
}

/// One element type of every size that there is.
#[cfg(test)]
pub(in crate::ops) const EVERY_SIZE: [crate::tensor::DType; 4] = {
    use crate::tensor::DType::{BF16, F64, I8, U32};
    [I8, BF16, U32, F64]
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn indices_are_visited_in_row_major_order() {
        let mut seen = Vec::new();
        for_each_index(&[2, 1, 3], |at, index| seen.push((at, index.to_vec())));
        let expected = [[0, 0, 0], [0, 0, 1], [0, 0, 2], [1, 0, 0], [1, 0, 1], [1, 0, 2]];
        assert_eq!(
            seen,
            expected
                .iter()
                .map(|i| i.to_vec())
                .enumerate()
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_scalar_has_one_index_and_an_empty_tensor_none() {
        let count = |shape: &[usize]| {
            let mut count = 0;
            for_each_index(shape, |_, _| count += 1);
            count
        };
        assert_eq!(count(&[]), 1);
        assert_eq!(count(&[3, 0, 2]), 0);
    }

    #[test]
    fn positions_and_strides_agree() {
        let shape = [2, 3, 4];
        let strides = strides(&shape);
        assert_eq!(strides, [12, 4, 1]);
        for_each_index(&shape, |at, index| {
            assert_eq!(position(&shape, index), at);
            assert_eq!(index.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>(), at);
        });
    }

    #[test]
    fn picking_moves_elements_of_odd_types() {
        let source = HostTensor::new(TensorType::new(DType::F16, [3]), vec![1, 2, 3, 4, 5, 6]);
        let picked = pick(TensorType::new(DType::F16, [2]), &source, |to, from| {
            from[0] = 2 - to[0];
        });
        assert_eq!(picked.bytes(), [5, 6, 3, 4]);
    }
}
