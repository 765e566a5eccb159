//! The decision itself.

use std::time::Duration;

use super::{Decision, Item, Limits};

/// Decides what a device that is free does at time `now` with the queued `items`.
///
/// The order of `items` only breaks ties between equal priority and arrival; indices in the answer refer to it.
///
/// ```
/// use std::num::NonZeroUsize;
/// use std::time::Duration;
/// use afterglow_policy::batch::{Decision, Item, Limits, decide};
///
/// let limits = Limits {
///     max_rows: NonZeroUsize::new(4).unwrap(),
///     max_delay: Duration::from_millis(2),
///     preferred_rows: vec![2],
/// };
/// let item = |ms| Item { arrived: Duration::from_millis(ms), rows: 1, key: "f32[3]", priority: 0, deadline: None };
///
/// // One alone waits for company until its delay is over; two are a preferred size.
/// assert_eq!(decide(&[item(0)], &limits, Duration::from_millis(1)), Decision::Wait(Duration::from_millis(2)));
/// assert_eq!(decide(&[item(0)], &limits, Duration::from_millis(2)), Decision::Run(vec![0]));
/// assert_eq!(decide(&[item(0), item(1)], &limits, Duration::from_millis(1)), Decision::Run(vec![0, 1]));
/// ```
pub fn decide<K: PartialEq>(items: &[Item<K>], limits: &Limits, now: Duration) -> Decision {
    let expired: Vec<usize> = (0..items.len())
        .filter(|&i| items[i].deadline.is_some_and(|deadline| deadline <= now))
        .collect();
    if !expired.is_empty() {
        return Decision::Expire(expired);
    }

    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&i| (items[i].priority, items[i].arrived, i));

    let mut earliest = None;
    let mut seen: Vec<&K> = Vec::new();
    for &leader in &order {
        let key = &items[leader].key;
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        match Group::gather(items, &order, key, limits).when(items, leader, limits) {
            When::Now(batch) => return Decision::Run(batch),
            When::At(due, batch) if due <= now => return Decision::Run(batch),
            When::At(due, _) => earliest = Some(earliest.map_or(due, |e: Duration| e.min(due))),
        }
    }
    earliest.map_or(Decision::Idle, Decision::Wait)
}

/// The compatible requests that could run together, in order of service.
struct Group {
    members: Vec<usize>,
    /// Rows of the members up to and including each.
    sums: Vec<usize>,
    /// Whether nothing more can join: the batch is at its limit, or the next in line does not fit.
    full: bool,
}

enum When {
    Now(Vec<usize>),
    At(Duration, Vec<usize>),
}

impl Group {
    fn gather<K: PartialEq>(items: &[Item<K>], order: &[usize], key: &K, limits: &Limits) -> Self {
        let max = limits.max_rows.get();
        let mut group = Self {
            members: Vec::new(),
            sums: Vec::new(),
            full: false,
        };
        let mut rows = 0usize;
        for &i in order.iter().filter(|&&i| items[i].key == *key) {
            // A request larger than the limit is the caller's mistake; alone it still gets its turn.
            let fits = group.members.is_empty() || rows.saturating_add(items[i].rows) <= max;
            if !fits {
                group.full = true;
                break;
            }
            rows = rows.saturating_add(items[i].rows);
            group.members.push(i);
            group.sums.push(rows);
        }
        group.full |= rows >= max;
        group
    }

    fn when<K>(mut self, items: &[Item<K>], leader: usize, limits: &Limits) -> When {
        if self.full {
            return When::Now(self.members);
        }
        if let Some(last) = self
            .sums
            .iter()
            .rposition(|sum| limits.preferred_rows.contains(sum))
        {
            self.members.truncate(last + 1);
            return When::Now(self.members);
        }
        // The leader is the first to be served, which with priorities need not be the first that came: nobody in the
        // batch waits longer than the delay.
        let oldest = self
            .members
            .iter()
            .map(|&i| items[i].arrived)
            .min()
            .unwrap_or(items[leader].arrived);
        let due = oldest.saturating_add(limits.max_delay);
        // Waiting until `due` would kill a member whose deadline comes first; it has all the company it will get.
        let hurried = self
            .members
            .iter()
            .any(|&i| items[i].deadline.is_some_and(|deadline| deadline <= due));
        if hurried {
            When::Now(self.members)
        } else {
            When::At(due, self.members)
        }
    }
}
