//! Broadcasting and merging of batch axes.

/// Extents of axes and, for each operand, its element stride along them; stride 0 repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ops) struct Batch<const OPERANDS: usize> {
    /// Extents, outermost first.
    pub extents: Vec<usize>,
    /// Strides per operand, parallel to `extents`.
    pub strides: [Vec<usize>; OPERANDS],
}

impl<const OPERANDS: usize> Batch<OPERANDS> {
    /// Drops axes of extent 1 and joins neighbours that every operand walks evenly.
    #[must_use]
    pub(in crate::ops) fn merged(&self) -> Self {
        let mut merged = Self {
            extents: Vec::new(),
            strides: std::array::from_fn(|_| Vec::new()),
        };
        for (axis, &extent) in self.extents.iter().enumerate() {
            if extent == 1 {
                continue;
            }
            let joins = !merged.extents.is_empty()
                && self
                    .strides
                    .iter()
                    .zip(&merged.strides)
                    .all(|(own, outer)| outer.last() == Some(&(own[axis] * extent)));
            if joins {
                *merged.extents.last_mut().expect("checked above") *= extent;
                for (own, outer) in self.strides.iter().zip(&mut merged.strides) {
                    *outer.last_mut().expect("parallel to extents") = own[axis];
                }
            } else {
                merged.extents.push(extent);
                for (own, outer) in self.strides.iter().zip(&mut merged.strides) {
                    outer.push(own[axis]);
                }
            }
        }
        merged
    }

    /// Splits into the innermost `inner` axes and, for every index of the axes outside them, each operand's offset.
    pub(in crate::ops) fn split(&self, inner: usize) -> (Vec<[usize; OPERANDS]>, Self) {
        let outer = self.extents.len().saturating_sub(inner);
        let mut offsets = vec![[0; OPERANDS]];
        for axis in 0..outer {
            offsets = offsets
                .into_iter()
                .flat_map(|base| {
                    (0..self.extents[axis])
                        .map(move |i| std::array::from_fn(|op| base[op] + i * self.strides[op][axis]))
                })
                .collect();
        }
        let rest = Self {
            extents: self.extents[outer..].to_vec(),
            strides: std::array::from_fn(|op| self.strides[op][outer..].to_vec()),
        };
        (offsets, rest)
    }
}

/// Row-major element strides of a dense tensor.
pub(in crate::ops) fn dense_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Strides that read `shape`, placed at element strides `strides`, as if it had the extents `target`; `None` where it
/// does not broadcast to them.
pub(in crate::ops) fn broadcast_strides(
    shape: &[usize],
    strides: &[usize],
    target: &[usize],
) -> Option<Vec<usize>> {
    let missing = target.len().checked_sub(shape.len())?;
    let mut result = vec![0; target.len()];
    for axis in 0..shape.len() {
        if shape[axis] == target[missing + axis] {
            result[missing + axis] = if shape[axis] == 1 { 0 } else { strides[axis] };
        } else if shape[axis] != 1 {
            return None;
        }
    }
    Some(result)
}

/// The shape that both broadcast to (ONNX, "Broadcasting in ONNX"), or `None`.
pub(in crate::ops) fn broadcast_shapes(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let extent = |shape: &[usize], axis: usize| {
        (axis + shape.len())
            .checked_sub(rank)
            .map_or(1, |axis| shape[axis])
    };
    (0..rank)
        .map(|axis| match (extent(a, axis), extent(b, axis)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_that_all_operands_walk_evenly_become_one() {
        let batch = Batch {
            extents: vec![2, 3, 1, 4],
            strides: [vec![12, 4, 4, 1], vec![0, 0, 0, 0]],
        };
        assert_eq!(
            batch.merged(),
            Batch {
                extents: vec![24],
                strides: [vec![1], vec![0]]
            }
        );
    }

    #[test]
    fn an_axis_that_one_operand_repeats_stays_apart() {
        let batch = Batch {
            extents: vec![2, 3],
            strides: [vec![3, 1], vec![0, 1]],
        };
        assert_eq!(batch.merged(), batch);
    }

    #[test]
    fn splitting_enumerates_the_outer_axes() {
        let batch = Batch {
            extents: vec![2, 3, 4],
            strides: [vec![12, 4, 1], vec![0, 5, 0]],
        };
        let (offsets, inner) = batch.split(1);
        assert_eq!(offsets, [[0, 0], [4, 5], [8, 10], [12, 0], [16, 5], [20, 10]]);
        assert_eq!(inner.extents, [4]);
        assert_eq!(batch.split(8).0, [[0, 0]]);
    }

    #[test]
    fn broadcasting_follows_numpy() {
        assert_eq!(broadcast_shapes(&[2, 1], &[3]), Some(vec![2, 3]));
        assert_eq!(broadcast_shapes(&[0], &[1]), Some(vec![0]));
        assert_eq!(broadcast_shapes(&[2], &[3]), None);
        assert_eq!(broadcast_strides(&[3], &[1], &[2, 3]), Some(vec![0, 1]));
        assert_eq!(broadcast_strides(&[2, 1], &[1, 1], &[2, 3]), Some(vec![1, 0]));
        assert_eq!(broadcast_strides(&[2, 3], &[3, 1], &[3]), None);
    }
}
