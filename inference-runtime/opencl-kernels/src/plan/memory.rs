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
