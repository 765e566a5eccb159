//! Which axes are reduced and what that leaves: the geometry of every reduction.

use crate::ops::Reason;
use crate::ops::elementwise::attributes::axis;
use crate::ops::elementwise::axes::{divisor_args, stride_arg};
use crate::plan::Arg;
use crate::tensor::Shape;

/// Axes with their extents and strides, innermost first, neighbours merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Axes {
    extents: Vec<usize>,
    strides: Vec<usize>,
}

impl Axes {
    /// How many indices.
    pub(super) fn count(&self) -> usize {
        self.extents.iter().product()
    }

    /// Whether neighbouring indices are neighbouring elements.
    pub(super) fn is_contiguous(&self) -> bool {
        self.strides.first() == Some(&1)
    }

    /// `int inner, int8 extents, int8 magics, int8 shifts, int8 strides`, as `locate` of `axes.cl` wants them.
    pub(super) fn args(&self) -> Result<Vec<Arg>, Reason> {
        // Nobody looks for an element where there is none, and no number divides by 0.
        let extents: Vec<usize> = self.extents.iter().map(|extent| *extent.max(&1)).collect();
        let mut args = divisor_args(&extents)?.to_vec();
        args.push(stride_arg(&self.strides)?);
        Ok(args)
    }

    /// The position of index number `index`.
    pub(super) fn position(&self, mut index: usize) -> usize {
        let mut at = 0;
        for (extent, stride) in self.extents.iter().zip(&self.strides) {
            at += index % extent * stride;
            index /= extent;
        }
        at
    }

    fn push(&mut self, extent: usize, stride: usize) {
        if let (Some(inner), Some(inner_stride)) = (self.extents.last_mut(), self.strides.last())
            && inner_stride * *inner == stride
        {
            *inner *= extent;
        } else {
            self.extents.push(extent);
            self.strides.push(stride);
        }
    }
}

/// A dense tensor split into the axes that stay and the axes that are reduced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Split {
    /// Axes of the result.
    pub(super) kept: Axes,
    /// Axes of each reduction.
    pub(super) reduced: Axes,
}

impl Split {
    /// Splits a shape; `reduced` says for each axis whether it is reduced.
    pub(super) fn new(shape: &[usize], reduced: &[bool]) -> Self {
        let mut split = Self {
            kept: Axes::default(),
            reduced: Axes::default(),
        };
        let mut stride = 1;
        for (&extent, &is_reduced) in shape.iter().zip(reduced).rev() {
            let side = if is_reduced {
                &mut split.reduced
            } else {
                &mut split.kept
            };
            if extent != 1 {
                side.push(extent, stride);
            }
            stride *= extent;
        }
        split
    }
}

/// For each axis whether it is named.
pub(super) fn named(axes: &[i64], rank: usize) -> Result<Vec<bool>, Reason> {
    let mut named = vec![false; rank];
    for &given in axes {
        named[axis(given, rank)?] = true;
    }
    Ok(named)
}

/// The shape after a reduction.
pub(super) fn reduced_shape(shape: &[usize], reduced: &[bool], keep: bool) -> Shape {
    let extents = shape.iter().zip(reduced);
    extents
        .filter(|(_, reduced)| keep || !**reduced)
        .map(|(&extent, &reduced)| if reduced { 1 } else { extent })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_of_one_side_become_one_axis() {
        let split = Split::new(&[2, 3, 4, 5], &[false, false, true, true]);
        assert_eq!((split.kept.extents, split.reduced.extents), (vec![6], vec![20]));
        let split = Split::new(&[2, 3, 4, 5], &[true, false, true, true]);
        assert_eq!(
            (split.kept.strides, split.reduced.strides),
            (vec![20], vec![1, 60])
        );
        let split = Split::new(&[2, 1, 4], &[true, false, true]);
        assert_eq!((split.kept.count(), split.reduced.extents), (1, vec![8]));
    }

    #[test]
    fn shapes_keep_their_axes_or_lose_them() {
        assert_eq!(reduced_shape(&[2, 3, 4], &[true, false, true], true), [1, 3, 1]);
        assert_eq!(reduced_shape(&[2, 3, 4], &[true, false, true], false), [3]);
        assert_eq!(reduced_shape(&[0, 3], &[true, false], false), [3]);
    }

    #[test]
    fn axes_are_named_from_either_end_and_twice() {
        assert_eq!(named(&[-1, 0, 2], 3), Ok(vec![true, false, true]));
        assert!(named(&[3], 3).is_err());
    }

    proptest! {
        #[test]
        fn every_element_belongs_to_one_output_once(
            axes in proptest::collection::vec((1..4_usize, any::<bool>()), 0..=6)
        ) {
            let (shape, reduced): (Vec<_>, Vec<_>) = axes.into_iter().unzip();
            let split = Split::new(&shape, &reduced);
            let mut seen = vec![0; shape.iter().product()];
            for output in 0..split.kept.count() {
                for r in 0..split.reduced.count() {
                    seen[split.kept.position(output) + split.reduced.position(r)] += 1;
                }
            }
            prop_assert!(seen.iter().all(|&times| times == 1));
        }
    }
}
