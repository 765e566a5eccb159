//! `(memory, promises) → who must go elsewhere`: what two that decided at once have promised too much.

use std::collections::BTreeSet;

/// Whose promise a device with so much memory cannot keep, of those in the order in which they were made: first come, first served.
///
/// [`place`](super::place) never promises too much, but it knows only what its caller knows. An operator that was stopped for
/// longer than its lease, and goes on with one write in its hand, promises memory that its successor has promised as well.
///
/// ```
/// use afterglow_policy::place::crowded_out;
///
/// let out = crowded_out(8, [("first", 5), ("second", 4), ("third", 3)]);
/// assert_eq!(out, ["second"].into());
/// ```
pub fn crowded_out<N: Ord>(memory: u64, promises: impl IntoIterator<Item = (N, u64)>) -> BTreeSet<N> {
    let mut free = memory;
    let mut out = BTreeSet::new();
    for (name, promised) in promises {
        match free.checked_sub(promised) {
            Some(left) => free = left,
            None => {
                out.insert(name);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn who_stays_fits_and_who_goes_would_not(memory in 0_u64..100, promises in prop::collection::vec(0_u64..60, 0..8)) {
            let out = crowded_out(memory, promises.iter().copied().enumerate());
            let kept = |before: usize| -> u64 {
                promises.iter().take(before).enumerate().filter(|(name, _)| !out.contains(name)).map(|(_, promised)| promised).sum()
            };
            prop_assert!(kept(promises.len()) <= memory);
            for &name in &out {
                prop_assert!(kept(name) + promises[name] > memory, "{name} would have fitted");
            }
        }

        #[test]
        fn a_later_promise_never_drives_an_earlier_one_out(memory in 0_u64..100, promises in prop::collection::vec(0_u64..60, 1..8)) {
            let named: Vec<(usize, u64)> = promises.into_iter().enumerate().collect();
            let before = crowded_out(memory, named[..named.len() - 1].iter().copied());
            let after = crowded_out(memory, named.iter().copied());
            prop_assert!(after.is_superset(&before));
            prop_assert!(after.len() <= before.len() + 1);
        }
    }
}
