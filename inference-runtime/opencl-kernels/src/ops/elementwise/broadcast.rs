//! `NumPy`'s broadcasting: shapes, and strides over as few axes as possible.

use crate::ops::Reason;
use crate::tensor::Shape;

/// The common shape of all operands (ONNX "multidirectional broadcasting").
pub(in crate::ops) fn broadcast(shapes: &[&[usize]]) -> Result<Shape, Reason> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let mut common = vec![1; rank];
    for shape in shapes {
        let skipped = rank - shape.len();
        for (target, &extent) in common[skipped..].iter_mut().zip(*shape) {
            match (*target, extent) {
                (_, 1) => {}
                (1, _) => *target = extent,
                (a, b) if a == b => {}
                _ => return Err(format!("shapes {shapes:?} do not broadcast")),
            }
        }
    }
    Ok(common)
}

/// Refuses an operand that would have to shrink or to grow the target (ONNX "unidirectional broadcasting").
pub(in crate::ops) fn broadcasts_to(operand: &[usize], target: &[usize], what: &str) -> Result<(), Reason> {
    match broadcast(&[operand, target]) {
        Ok(common) if common == target => Ok(()),
        _ => Err(format!(
            "{what} of shape {operand:?} does not broadcast to {target:?}"
        )),
    }
}

/// For each element of a dense `target`, the position of the element that a broadcast operand contributes.
///
/// The references are written with this and the kernels with [`Layout`], so that one checks the other.
pub(in crate::ops) fn positions(target: &[usize], operand: &[usize]) -> impl Iterator<Item = usize> {
    let skipped = target.len() - operand.len();
    let (target, operand) = (target.to_vec(), operand.to_vec());
    (0..target.iter().product()).map(move |position| {
        let (mut rest, mut stride, mut at) = (position, 1, 0);
        for axis in (0..target.len()).rev() {
            let index = rest % target[axis];
            rest /= target[axis];
            if axis >= skipped {
                let extent = operand[axis - skipped];
                at += if extent == 1 { 0 } else { index * stride };
                stride *= extent;
            }
        }
        at
    })
}

/// The index space of a dense target and where each of `N` broadcast operands lies in it.
///
/// Axes of extent 1 are gone and neighbours that every operand walks through evenly are one axis; so the innermost
/// stride of an operand is 1, or 0 where it is repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ops) struct Layout<const N: usize> {
    /// Extents, innermost first.
    pub(in crate::ops) extents: Vec<usize>,
    /// Strides in elements per axis and operand, innermost first.
    pub(in crate::ops) strides: Vec<[usize; N]>,
}

impl<const N: usize> Layout<N> {
    /// The layout of operands that broadcast to `target`, which has elements.
    pub(in crate::ops) fn new(target: &[usize], operands: [&[usize]; N]) -> Self {
        let mut layout = Self {
            extents: Vec::new(),
            strides: Vec::new(),
        };
        let mut dense = [1; N];
        for axis in 0..target.len() {
            let from_end = |shape: &[usize]| shape.len().checked_sub(axis + 1).map_or(1, |i| shape[i]);
            let extent = from_end(target);
            let strides: [usize; N] = std::array::from_fn(|i| {
                let own = from_end(operands[i]);
                let stride = if own == 1 { 0 } else { dense[i] };
                dense[i] *= own;
                stride
            });
            if extent != 1 {
                layout.push(extent, strides);
            }
        }
        if layout.extents.is_empty() {
            layout.push(1, [0; N]);
        }
        layout
    }

    /// Number of axes, at least 1.
    pub(in crate::ops) fn rank(&self) -> usize {
        self.extents.len()
    }

    /// Strides of one operand, innermost first.
    pub(in crate::ops) fn strides_of(&self, operand: usize) -> impl Iterator<Item = usize> + '_ {
        self.strides.iter().map(move |strides| strides[operand])
    }

    fn push(&mut self, extent: usize, strides: [usize; N]) {
        if let (Some(inner), Some(inner_strides)) = (self.extents.last_mut(), self.strides.last())
            && (0..N).all(|i| strides[i] == inner_strides[i] * *inner)
        {
            *inner *= extent;
            return;
        }
        self.extents.push(extent);
        self.strides.push(strides);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shapes_broadcast_as_numpy_says() {
        type Case<'a> = (&'a [&'a [usize]], Option<&'a [usize]>);
        let cases: [Case<'_>; 9] = [
            (&[&[2, 3], &[3]], Some(&[2, 3])),
            (&[&[2, 1], &[1, 3]], Some(&[2, 3])),
            (&[&[], &[4]], Some(&[4])),
            (&[&[], &[]], Some(&[])),
            (&[&[0], &[1]], Some(&[0])),
            (&[&[2, 0], &[2, 1]], Some(&[2, 0])),
            (&[&[0], &[2]], None),
            (&[&[2], &[3]], None),
            (&[&[5, 1, 1], &[4, 1], &[3]], Some(&[5, 4, 3])),
        ];
        for (shapes, expected) in cases {
            assert_eq!(broadcast(shapes).ok().as_deref(), expected, "{shapes:?}");
        }
    }

    #[test]
    fn neighbours_become_one_axis() {
        let layout = Layout::new(&[2, 3, 4, 5], [&[2, 3, 4, 5], &[4, 5]]);
        assert_eq!(layout.extents, [20, 6]);
        assert_eq!(layout.strides, [[1, 1], [20, 0]]);

        let channel = Layout::new(&[2, 3, 4, 5], [&[2, 3, 4, 5], &[3, 1, 1]]);
        assert_eq!(channel.extents, [20, 3, 2]);
        assert_eq!(channel.strides, [[1, 0], [20, 1], [60, 0]]);

        assert_eq!(Layout::new(&[4, 4], [&[4, 4], &[4, 4]]).extents, [16]);
        assert_eq!(Layout::new(&[4, 4], [&[4, 4], &[]]).strides, [[1, 0]]);
        assert_eq!(Layout::new(&[], [&[]]).extents, [1]);
    }

    #[test]
    fn unidirectional_broadcasting_does_not_grow_the_target() {
        assert!(broadcasts_to(&[3], &[2, 3], "scale").is_ok());
        assert!(broadcasts_to(&[1, 2, 3], &[2, 3], "scale").is_err());
        assert!(broadcasts_to(&[2, 3], &[1, 3], "scale").is_err());
    }

    fn operand(target: Vec<usize>) -> impl Strategy<Value = Vec<usize>> {
        let rank = target.len();
        (0..=rank, proptest::collection::vec(any::<bool>(), rank)).prop_map(move |(skip, ones)| {
            let extents = target.iter().zip(ones).map(|(&e, one)| if one { 1 } else { e });
            extents.skip(skip).collect()
        })
    }

    fn target() -> impl Strategy<Value = Vec<usize>> {
        proptest::collection::vec(prop_oneof![Just(1), 2..4_usize], 0..=8)
    }

    proptest! {
        #[test]
        fn layouts_find_the_elements_that_positions_names(
            (target, a, b) in target().prop_flat_map(|t| (Just(t.clone()), operand(t.clone()), operand(t)))
        ) {
            let layout = Layout::new(&target, [&a, &b]);
            prop_assert!(layout.strides[0].iter().all(|&stride| stride <= 1));
            let expected = positions(&target, &a).zip(positions(&target, &b));
            for (position, (in_a, in_b)) in expected.enumerate() {
                let (mut rest, mut at) = (position, [0, 0]);
                for (&extent, strides) in layout.extents.iter().zip(&layout.strides) {
                    for i in 0..2 {
                        at[i] += rest % extent * strides[i];
                    }
                    rest /= extent;
                }
                prop_assert_eq!(at, [in_a, in_b]);
            }
        }

        #[test]
        fn broadcasting_is_symmetric_and_keeps_the_target(
            (target, a) in target().prop_flat_map(|t| (Just(t.clone()), operand(t)))
        ) {
            prop_assert_eq!(broadcast(&[&target, &a]), Ok(target.clone()));
            prop_assert_eq!(broadcast(&[&a, &target]), Ok(target));
        }
    }
}
