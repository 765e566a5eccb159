//! Division by multiplication, for index arithmetic in kernels.

use crate::plan::Arg;

/// Magic numbers that make `divide` of `prelude.cl` divide by a fixed extent.
///
/// Granlund and Montgomery, "Division by invariant integers using multiplication", 1994, figure 4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) struct Divisor {
    /// Multiplied with the dividend; the upper half of the product counts.
    pub(in crate::ops) magic: u32,
    /// Right shift of the sum of that upper half and the dividend.
    pub(in crate::ops) shift: u32,
}

impl Divisor {
    /// The numbers for `extent`; exact for every dividend below 2^31.
    ///
    /// # Panics
    /// If `extent` is 0 or above 2^31.
    pub(in crate::ops) fn new(extent: usize) -> Self {
        assert!(
            (1..=1 << 31).contains(&extent),
            "an extent of {extent} cannot divide an index"
        );
        let extent = extent as u64;
        let shift = extent.next_power_of_two().trailing_zeros();
        let magic = ((1_u64 << 32) * ((1_u64 << shift) - extent)) / extent + 1;
        Self {
            magic: magic as u32,
            shift,
        }
    }

    /// `int extent, uint magic, uint shift`
    pub(in crate::ops) fn args(extent: usize) -> [Arg; 3] {
        let divisor = Self::new(extent);
        [
            Arg::I32(extent as i32),
            Arg::U32(divisor.magic),
            Arg::U32(divisor.shift),
        ]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Divisor;

    /// What `divide` of `prelude.cl` computes.
    fn divide(n: u32, by: Divisor) -> u32 {
        let upper = ((u64::from(n) * u64::from(by.magic)) >> 32) as u32;
        (upper + n) >> by.shift
    }

    #[test]
    fn divides_exactly_at_the_edges() {
        for d in [
            1,
            2,
            3,
            5,
            7,
            64,
            641,
            65_535,
            65_536,
            65_537,
            (1 << 30) + 1,
            i32::MAX as usize,
        ] {
            for n in [
                0,
                1,
                2,
                63,
                64,
                65,
                65_535,
                65_536,
                (1 << 30) - 1,
                1 << 30,
                i32::MAX as u32,
            ] {
                assert_eq!(divide(n, Divisor::new(d)), n / d as u32, "{n} / {d}");
            }
        }
    }

    proptest! {
        #[test]
        fn divides_like_the_processor(n in 0..=i32::MAX as u32, d in 1..=i32::MAX as u32) {
            prop_assert_eq!(divide(n, Divisor::new(d as usize)), n / d);
        }

        #[test]
        fn divides_by_small_extents(n in 0..=i32::MAX as u32, d in 1..=4096_u32) {
            prop_assert_eq!(divide(n, Divisor::new(d as usize)), n / d);
        }
    }
}
