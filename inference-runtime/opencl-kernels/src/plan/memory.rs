//! Addresses in the arena: storages that are alive at the same time never share bytes.

use super::{Step, Storage, StorageId, StorageKind};

/// Where each storage lies in the arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// By [`StorageId`]; `None` for storages that are not in the arena or that nothing mentions.
    offsets: Vec<Option<usize>>,
    /// Size of the arena.
    pub bytes: usize,
}

/// When a storage is alive: from the step before which it is written to the last step that touches it, inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    first: usize,
    last: usize,
}

impl Life {
    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    fn extend(life: &mut Option<Self>, step: usize) {
        let life = life.get_or_insert(Self {
            first: step,
            last: step,
        });
        life.first = life.first.min(step);
        life.last = life.last.max(step);
    }
}

impl Layout {
    /// Lays out the arena storages that some step or output mentions. `at_start` are written before the first step,
    /// `at_end` are read after the last.
    ///
    /// Largest first, each at the lowest offset where it fits among the already placed ones that are alive with it:
    /// not optimal, but within a few percent on real graphs, and deterministic.
    pub fn make(
        storages: &[Storage],
        steps: &[Step],
        at_start: impl IntoIterator<Item = StorageId>,
        at_end: impl IntoIterator<Item = StorageId>,
        alignment: usize,
    ) -> Self {
        let mut lives: Vec<Option<Life>> = vec![None; storages.len()];
        for (index, step) in steps.iter().enumerate() {
            for id in step.storages() {
                Life::extend(&mut lives[id.0 as usize], index);
            }
        }
        for id in at_end {
            Life::extend(&mut lives[id.0 as usize], steps.len());
        }
        for id in at_start {
            // An input that nobody reads stays without a life.
            if let Some(life) = &mut lives[id.0 as usize] {
                life.first = 0;
            }
        }
        let mut order: Vec<(usize, Life, usize)> = storages
            .iter()
            .zip(&lives)
            .enumerate()
            .filter(|(_, (storage, _))| matches!(storage.kind, StorageKind::Arena))
            .filter_map(|(id, (storage, life))| {
                Some((id, (*life)?, storage.bytes.next_multiple_of(alignment.max(1))))
            })
            .collect();
        order.sort_by_key(|&(id, life, bytes)| (std::cmp::Reverse(bytes), life.first, id));

        let mut layout = Self {
            offsets: vec![None; storages.len()],
            bytes: 0,
        };
        // Placed ranges sorted by offset, so that one pass finds the lowest gap.
        let mut placed: Vec<(usize, usize, Life)> = Vec::new();
        for (id, life, bytes) in order {
            let mut offset = 0;
            for &(start, end, _) in placed.iter().filter(|(_, _, other)| other.overlaps(life)) {
                if offset + bytes <= start {
                    break;
                }
                offset = offset.max(end);
            }
            let at = placed.partition_point(|&(start, _, _)| start <= offset);
            placed.insert(at, (offset, offset + bytes, life));
            layout.offsets[id] = Some(offset);
            layout.bytes = layout.bytes.max(offset + bytes);
        }
        layout
    }

    /// The storage's offset in bytes, if it lives in the arena.
    pub fn offset(&self, id: StorageId) -> Option<usize> {
        self.offsets[id.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step(from: usize, to: usize) -> Step {
        Step::Copy {
            from: (StorageId(from as u32), 0),
            to: (StorageId(to as u32), 0),
            bytes: 1,
        }
    }

    fn arena(sizes: &[usize]) -> Vec<Storage> {
        let storage = |&bytes: &usize| Storage {
            bytes,
            kind: StorageKind::Arena,
        };
        sizes.iter().map(storage).collect()
    }

    #[test]
    fn a_chain_needs_only_two_buffers() {
        let sizes = [1000; 6];
        let steps: Vec<Step> = (0..5).map(|i| step(i, i + 1)).collect();
        let layout = Layout::make(&arena(&sizes), &steps, [StorageId(0)], [StorageId(5)], 128);
        assert_eq!(
            layout.bytes,
            2 * 1024,
            "each value dies when the next one is complete"
        );
    }

    #[test]
    fn an_input_read_late_keeps_its_bytes_until_then() {
        let sizes = [256; 4];
        let steps = [step(1, 2), step(2, 3), step(0, 3)];
        let inputs = [StorageId(0), StorageId(1)];
        let layout = Layout::make(&arena(&sizes), &steps, inputs, [StorageId(3)], 256);
        let late = layout.offset(StorageId(0));
        assert!((1..4).all(|other| layout.offset(StorageId(other)) != late));
    }

    #[test]
    fn what_nothing_mentions_gets_no_place() {
        let layout = Layout::make(&arena(&[64, 64]), &[], [StorageId(0)], [], 64);
        assert_eq!((layout.offset(StorageId(0)), layout.bytes), (None, 0));
    }

    proptest! {
        #[test]
        fn storages_alive_together_never_share_bytes(
            sizes in proptest::collection::vec(1_usize..5000, 2..40),
            edges in proptest::collection::vec((0_usize..1000, 0_usize..1000), 1..60),
            inputs in proptest::collection::vec(0_usize..1000, 0..5),
            outputs in proptest::collection::vec(0_usize..1000, 0..5),
        ) {
            let id = |i: usize| StorageId((i % sizes.len()) as u32);
            let steps: Vec<Step> = edges.iter().map(|&(a, b)| step(a % sizes.len(), b % sizes.len())).collect();
            let storages = arena(&sizes);
            let make = || Layout::make(
                &storages,
                &steps,
                inputs.iter().map(|&i| id(i)),
                outputs.iter().map(|&i| id(i)),
                128,
            );
            let layout = make();
            prop_assert_eq!(&layout, &make(), "deterministic");

            // Lives as the executor lives them: replay the steps and watch who still has a future.
            let touched = |s: usize, at: usize| steps[at].storages().any(|t| t.0 as usize == s);
            let is_input = |s: usize| inputs.iter().any(|&i| id(i).0 as usize == s);
            let is_output = |s: usize| outputs.iter().any(|&i| id(i).0 as usize == s);
            let alive = |s: usize, at: usize| {
                let before = is_input(s) || (0..=at).any(|t| touched(s, t));
                let after = is_output(s) || (at..steps.len()).any(|t| touched(s, t));
                before && after
            };
            for at in 0..steps.len() {
                let now: Vec<(usize, usize)> = (0..sizes.len())
                    .filter(|&s| alive(s, at))
                    .map(|s| {
                        let offset = layout.offset(StorageId(s as u32)).expect("alive means mentioned");
                        (offset, offset + sizes[s])
                    })
                    .collect();
                for (i, a) in now.iter().enumerate() {
                    prop_assert_eq!(a.0 % 128, 0);
                    prop_assert!(a.1 <= layout.bytes);
                    for b in &now[i + 1..] {
                        prop_assert!(a.1 <= b.0 || b.1 <= a.0, "{:?} and {:?} overlap at step {}", a, b, at);
                    }
                }
            }
        }
    }
}
