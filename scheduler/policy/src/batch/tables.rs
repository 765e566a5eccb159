//! The rules of the module's documentation, one row each.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::{Decision, Item, Limits, decide};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn limits(max: usize, delay: u64, preferred: &[usize]) -> Limits {
    Limits {
        max_rows: NonZeroUsize::new(max).unwrap(),
        max_delay: ms(delay),
        preferred_rows: preferred.to_vec(),
    }
}

fn at(arrived: u64) -> Item<char> {
    Item {
        arrived: ms(arrived),
        rows: 1,
        key: 'a',
        priority: 1,
        deadline: None,
    }
}

impl Item<char> {
    fn rows(self, rows: usize) -> Self {
        Self { rows, ..self }
    }
    fn key(self, key: char) -> Self {
        Self { key, ..self }
    }
    fn priority(self, priority: u64) -> Self {
        Self { priority, ..self }
    }
    fn until(self, deadline: u64) -> Self {
        Self {
            deadline: Some(ms(deadline)),
            ..self
        }
    }
}

#[test]
fn rules() {
    use Decision::{Expire, Idle, Run, Wait};
    type Row<'a> = (&'a str, Vec<Item<char>>, &'a Limits, u64, Decision);
    let four = limits(4, 10, &[]);
    let preferred = limits(8, 10, &[6, 2]);
    let (one, hasty) = (limits(1, 0, &[]), limits(4, 0, &[]));
    let rows: Vec<Row<'_>> = vec![
        ("an empty queue is idle", vec![], &four, 5, Idle),
        ("one waits for company", vec![at(3)], &four, 5, Wait(ms(13))),
        (
            "the delay counts from the arrival of the oldest",
            vec![at(4), at(3)],
            &four,
            5,
            Wait(ms(13)),
        ),
        (
            "the delay is over",
            vec![at(3), at(9)],
            &four,
            13,
            Run(vec![0, 1]),
        ),
        (
            "a full batch runs at once",
            vec![at(0), at(0), at(0), at(0)],
            &four,
            0,
            Run(vec![0, 1, 2, 3]),
        ),
        (
            "a batch closes at its limit",
            vec![at(0), at(1), at(2), at(3), at(4)],
            &four,
            4,
            Run(vec![0, 1, 2, 3]),
        ),
        (
            "rows count, not requests",
            vec![at(0).rows(3), at(1).rows(1)],
            &four,
            1,
            Run(vec![0, 1]),
        ),
        (
            "what does not fit closes the batch",
            vec![at(0).rows(3), at(1).rows(2)],
            &four,
            1,
            Run(vec![0]),
        ),
        (
            "nobody slips past a neighbour that does not fit",
            vec![at(0).rows(3), at(1).rows(2), at(2).rows(1)],
            &four,
            2,
            Run(vec![0]),
        ),
        (
            "a preferred size runs at once",
            vec![at(0), at(1)],
            &preferred,
            1,
            Run(vec![0, 1]),
        ),
        (
            "the largest preferred size in reach",
            vec![at(0).rows(4), at(1).rows(2), at(2).rows(1)],
            &preferred,
            2,
            Run(vec![0, 1]),
        ),
        (
            "no preferred size in reach: wait",
            vec![at(0).rows(3)],
            &preferred,
            2,
            Wait(ms(10)),
        ),
        (
            "no preferred size in reach, delay over: all",
            vec![at(0).rows(3), at(1).rows(2)],
            &preferred,
            10,
            Run(vec![0, 1]),
        ),
        (
            "no delay: whatever is there",
            vec![at(0), at(0)],
            &hasty,
            0,
            Run(vec![0, 1]),
        ),
        (
            "priority before age",
            vec![at(0), at(1).priority(0)],
            &one,
            1,
            Run(vec![1]),
        ),
        (
            "first come first served within a priority",
            vec![at(2), at(1)],
            &one,
            2,
            Run(vec![1]),
        ),
        (
            "the slice's order breaks ties",
            vec![at(1), at(1)],
            &one,
            2,
            Run(vec![0]),
        ),
        (
            "incompatible requests do not mix",
            vec![at(0), at(1).key('b'), at(2)],
            &four,
            10,
            Run(vec![0, 2]),
        ),
        (
            "the leader is the oldest kind",
            vec![at(1).key('b'), at(0)],
            &four,
            20,
            Run(vec![1]),
        ),
        (
            "a complete batch runs while another kind waits",
            vec![at(0).key('b'), at(1).rows(4)],
            &four,
            1,
            Run(vec![1]),
        ),
        (
            "the kind that waited is first when its delay is over",
            vec![at(0).key('b'), at(9).rows(4)],
            &four,
            10,
            Run(vec![0]),
        ),
        (
            "the earliest delay of all kinds",
            vec![at(3).key('b'), at(2)],
            &four,
            5,
            Wait(ms(12)),
        ),
        (
            "the deadline has passed",
            vec![at(0), at(0).until(5), at(0).until(4)],
            &four,
            5,
            Expire(vec![1, 2]),
        ),
        (
            "a deadline before the delay's end runs now",
            vec![at(0).until(8)],
            &four,
            1,
            Run(vec![0]),
        ),
        (
            "a far deadline waits",
            vec![at(0).until(80)],
            &four,
            1,
            Wait(ms(10)),
        ),
        (
            "a hurried member takes its batch along",
            vec![at(0), at(1).until(8)],
            &four,
            1,
            Run(vec![0, 1]),
        ),
        (
            "an oversized request still gets its turn, alone",
            vec![at(0).rows(9), at(0)],
            &four,
            0,
            Run(vec![0]),
        ),
    ];
    for (claim, items, limits, now, expected) in rows {
        assert_eq!(decide(&items, limits, ms(now)), expected, "{claim}");
    }
}
