//! What holds for every queue.

use std::num::NonZeroUsize;
use std::time::Duration;

use proptest::prelude::*;

use super::{Decision, Item, Limits, decide};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn items() -> impl Strategy<Value = Vec<Item<u8>>> {
    let item = (
        0u64..40,
        1usize..6,
        0u8..3,
        0u64..3,
        proptest::option::of(0u64..80),
    )
        .prop_map(|(arrived, rows, key, priority, deadline)| Item {
            arrived: ms(arrived),
            rows,
            key,
            priority,
            deadline: deadline.map(ms),
        });
    proptest::collection::vec(item, 0..24)
}

fn limits() -> impl Strategy<Value = Limits> {
    (5usize..12, 0u64..20, proptest::collection::vec(1usize..12, 0..3)).prop_map(
        |(max, delay, preferred_rows)| Limits {
            max_rows: NonZeroUsize::new(max).unwrap(),
            max_delay: ms(delay),
            preferred_rows,
        },
    )
}

/// What became of each item of a queue on a device whose executions take no time.
struct Fate {
    ran_at: Vec<Option<Duration>>,
    expired_at: Vec<Option<Duration>>,
}

/// Lets time pass until everything that arrives is gone; fails the case if a rule is broken on the way.
fn live(items: &[Item<u8>], limits: &Limits) -> Result<Fate, TestCaseError> {
    let mut fate = Fate {
        ran_at: vec![None; items.len()],
        expired_at: vec![None; items.len()],
    };
    let mut now = Duration::ZERO;
    let mut steps = 0;
    loop {
        steps += 1;
        prop_assert!(steps < 1000, "no progress at {now:?}");
        let present: Vec<usize> = (0..items.len())
            .filter(|&i| items[i].arrived <= now && fate.ran_at[i].is_none() && fate.expired_at[i].is_none())
            .collect();
        let queue: Vec<Item<u8>> = present.iter().map(|&i| items[i].clone()).collect();
        let arrival = items.iter().map(|i| i.arrived).filter(|a| *a > now).min();
        let decision = decide(&queue, limits, now);
        prop_assert_eq!(
            &decision,
            &decide(&queue, limits, now),
            "the same question has the same answer"
        );
        match decision {
            Decision::Idle => {
                prop_assert!(queue.is_empty(), "something is queued and nothing was decided");
                let Some(arrival) = arrival else { return Ok(fate) };
                now = arrival;
            }
            Decision::Wait(until) => {
                prop_assert!(until > now, "a wait that is already over");
                now = arrival.map_or(until, |a| a.min(until));
            }
            Decision::Expire(which) => {
                prop_assert!(!which.is_empty());
                for i in which {
                    prop_assert!(queue[i].deadline.is_some_and(|d| d <= now));
                    prop_assert!(
                        fate.expired_at[present[i]].replace(now).is_none(),
                        "expired twice"
                    );
                }
            }
            Decision::Run(which) => {
                prop_assert!(!which.is_empty());
                let rows: usize = which.iter().map(|&i| queue[i].rows).sum();
                prop_assert!(rows <= limits.max_rows.get(), "{rows} rows in one batch");
                let leader = &queue[which[0]];
                for &i in &which {
                    prop_assert_eq!(queue[i].key, leader.key, "incompatible requests in one batch");
                    prop_assert!(
                        queue[i].deadline.is_none_or(|d| d > now),
                        "an expired request ran"
                    );
                    prop_assert!(
                        fate.ran_at[present[i]].replace(now).is_none(),
                        "a request ran twice"
                    );
                }
                // Within its kind nobody is overtaken by an equal or lesser.
                for (i, item) in queue.iter().enumerate() {
                    if item.key == leader.key && !which.contains(&i) {
                        for &j in &which {
                            let (a, b) = (&queue[j], item);
                            prop_assert!(
                                (a.priority, a.arrived, j) < (b.priority, b.arrived, i),
                                "overtaken"
                            );
                        }
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_or_doubled_and_nothing_waits_too_long_on_an_idle_device(items in items(), limits in limits()) {
        let fate = live(&items, &limits)?;
        for (i, item) in items.iter().enumerate() {
            prop_assert!(fate.ran_at[i].is_some() ^ fate.expired_at[i].is_some(), "one fate each");
            if let Some(ran) = fate.ran_at[i] {
                prop_assert!(ran >= item.arrived);
                let waited = ran.saturating_sub(item.arrived);
                prop_assert!(waited <= limits.max_delay, "waited {waited:?}");
            }
            if let Some(expired) = fate.expired_at[i] {
                // The device was never busy: only a request that came dead, or with no time at all, may expire.
                prop_assert!(item.deadline.is_some_and(|d| d <= item.arrived), "expired at {expired:?} while idle");
            }
        }
    }

    #[test]
    fn the_order_of_the_slice_only_breaks_ties(mut items in items(), limits in limits(), now in 0u64..60) {
        // Distinct arrivals: no ties.
        for (i, item) in items.iter_mut().enumerate() {
            item.arrived = ms(2 * i as u64);
        }
        let now = ms(now);
        let reversed: Vec<_> = items.iter().rev().cloned().collect();
        let back = |i: usize| items.len() - 1 - i;
        let expected = match decide(&items, &limits, now) {
            Decision::Run(which) => Decision::Run(which.into_iter().map(back).collect()),
            Decision::Expire(which) => {
                let mut which: Vec<_> = which.into_iter().map(back).collect();
                which.sort_unstable();
                Decision::Expire(which)
            }
            other => other,
        };
        prop_assert_eq!(decide(&reversed, &limits, now), expected);
    }
}
