//! The breaker in virtual time, as tables.

use std::time::Duration;

use super::{
    BUCKETS, Event, HARD_FIRST, HARD_LONGEST, Health, IN_A_ROW, PROBE, SILENT, SOFT_FIRST, SOFT_LONGEST,
    Standing, State, due, standing, step, tiers,
};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The state after all of it, each at its time.
fn after(events: &[(Duration, Event)]) -> State {
    events.iter().fold(State::default(), |state, (now, event)| {
        step(&state, *event, *now, 0)
    })
}

fn faults(from: Duration, count: u32) -> Vec<(Duration, Event)> {
    (0..count)
        .map(|one| (from + ms(u64::from(one)), Event::Fault))
        .collect()
}

fn out(state: &State, now: Duration) -> Option<bool> {
    match standing(state, now) {
        Standing::Out { hard, .. } => Some(hard),
        _ => None,
    }
}

#[test]
fn one_fault_is_nothing_and_five_in_a_row_are_enough() {
    for count in 0..IN_A_ROW {
        assert_eq!(
            standing(&after(&faults(s(1), count)), s(1)),
            Standing::Well,
            "{count}"
        );
    }
    let bad = after(&faults(s(1), IN_A_ROW));
    assert_eq!(out(&bad, s(2)), Some(false));
    let mut mended = faults(s(1), IN_A_ROW - 1);
    mended.push((s(2), Event::Answered { started: s(2) }));
    mended.extend(faults(s(3), IN_A_ROW - 1));
    assert_eq!(standing(&after(&mended), s(4)), Standing::Well, "not in a row");
}

#[test]
fn fewer_than_four_fifths_of_twenty_good_answers_are_too_few() {
    // Never enough faults in a row.
    let pattern = |good_of_ten: u64, answers: u64| {
        let mut state = State::default();
        for one in 0..answers {
            let now = s(100) + ms(one * 10);
            let good = one % 10 >= 10 - good_of_ten;
            let event = if good {
                Event::Answered { started: now }
            } else {
                Event::Fault
            };
            state = step(&state, event, now, 0);
            if out(&state, now).is_some() {
                return Some(one + 1);
            }
        }
        None
    };
    assert_eq!(pattern(9, 1000), None, "nine tenths are good");
    assert_eq!(
        pattern(7, 1000),
        Some(21),
        "with the first fault of which twenty were counted"
    );
    assert_eq!(pattern(7, 19), None, "too few to judge");
}

#[test]
fn answers_are_forgotten_after_ten_seconds() {
    let mut state = State::default();
    for one in 0..19 {
        let event = if one % 2 == 0 {
            Event::Fault
        } else {
            Event::Answered { started: s(5) }
        };
        state = step(&state, event, s(5), 0);
    }
    let soon = step(&state, Event::Fault, s(5 + BUCKETS as u64 - 1), 0);
    assert_eq!(out(&soon, s(15)), Some(false));
    let later = step(&state, Event::Fault, s(5 + BUCKETS as u64), 0);
    assert_eq!(standing(&later, s(20)), Standing::Well);
}

#[test]
fn pauses_double_up_to_the_longest_and_an_answer_makes_all_good() {
    for (event, first, longest) in [
        (Event::Unreachable, HARD_FIRST, HARD_LONGEST),
        (Event::NotThere, HARD_FIRST, HARD_LONGEST),
        (Event::Hung, SOFT_FIRST, SOFT_LONGEST),
    ] {
        let (mut state, mut now, mut wanted) = (State::default(), s(1), first);
        for _ in 0..8 {
            state = step(&state, event, now, 0);
            assert_eq!(due(&state), Some(now + wanted), "{event:?}");
            now += wanted;
            wanted = (2 * wanted).min(longest);
        }
        state = step(&state, Event::Answered { started: now }, now, 0);
        assert_eq!(standing(&state, now), Standing::Well);
        state = step(&state, event, now, 0);
        assert_eq!(due(&state), Some(now + first), "{event:?}: it begins anew");
    }
}

#[test]
fn pauses_are_spread_by_a_fifth_at_most() {
    for (random, wanted) in [(0, ms(500)), (512, ms(550)), (u64::MAX, ms(600))] {
        let state = step(&State::default(), Event::Unreachable, s(0), random);
        let until = due(&state).unwrap();
        assert!(until <= wanted && until + ms(1) > wanted, "{random}: {until:?}");
    }
}

#[test]
fn what_fails_together_counts_once() {
    let mut state = State::default();
    for one in 0..100 {
        state = step(&state, Event::NotThere, ms(one), 0);
    }
    assert_eq!(due(&state), Some(HARD_FIRST));
}

#[test]
fn an_answer_that_was_begun_before_the_trouble_proves_nothing() {
    let broken = after(&[(s(10), Event::Hung)]);
    let old = step(&broken, Event::Answered { started: s(9) }, s(11), 0);
    assert_eq!(out(&old, s(11)), Some(true));
    let new = step(&broken, Event::Answered { started: s(10) }, s(11), 0);
    assert_eq!(standing(&new, s(11)), Standing::Well);
}

#[test]
fn a_hard_cause_outranks_a_soft_one_and_not_the_other_way_round() {
    let mut events = faults(s(1), IN_A_ROW);
    events.push((s(2), Event::Unreachable));
    assert_eq!(out(&after(&events), s(2)), Some(true));
    let mut events = vec![(s(1), Event::Unreachable)];
    events.extend(faults(s(9), 2 * IN_A_ROW));
    assert_eq!(out(&after(&events), s(10)), Some(true));
}

#[test]
fn one_request_goes_to_see_and_another_only_when_nothing_is_heard_of_it() {
    let broken = after(&faults(s(0), IN_A_ROW));
    let back = due(&broken).unwrap();
    assert_eq!(standing(&broken, back), Standing::MayProbe);
    let seen = step(&broken, Event::Probe, back, 0);
    assert_eq!(out(&seen, back + PROBE.saturating_sub(ms(1))), Some(false));
    assert_eq!(standing(&seen, back + PROBE), Standing::MayProbe);
    let failed = step(&seen, Event::Fault, back + s(1), 0);
    assert_eq!(due(&failed), Some(back + s(1) + 2 * SOFT_FIRST));
}

#[test]
fn who_cannot_be_reached_is_not_tried_by_requests_and_who_lost_a_model_is_back_when_its_node_lists_it() {
    let lost = after(&[(s(0), Event::Unreachable)]);
    assert_eq!(out(&lost, s(3600)), Some(true));
    assert_eq!(step(&lost, Event::Listed, s(1), 0), lost);
    let gone = after(&[(s(0), Event::NotThere)]);
    assert_eq!(
        standing(&step(&gone, Event::Listed, ms(1), 0), ms(1)),
        Standing::Well
    );
}

#[test]
fn replicas_are_asked_tier_by_tier() {
    let well = Health {
        standing: Standing::Well,
        accepts: true,
        silent: Duration::ZERO,
    };
    let of = |standing| Health { standing, ..well };
    let soft = |until| {
        of(Standing::Out {
            hard: false,
            until: s(until),
        })
    };
    let hard = of(Standing::Out {
        hard: true,
        until: s(9),
    });
    let silent = |silent| Health { silent, ..well };
    let leaving = Health {
        accepts: false,
        ..well
    };
    for (all, wanted) in [
        (vec![], vec![]),
        (vec![well, of(Standing::MayProbe)], vec![0, 0]),
        (vec![silent(SILENT), silent(SILENT + ms(1))], vec![0, 1]),
        (vec![leaving, well], vec![2, 0]),
        (vec![hard], vec![3]),
        // One that answers badly is better than none.
        (vec![soft(1)], vec![1]),
        (vec![soft(1), well], vec![3, 0]),
        (vec![soft(1), soft(2)], vec![1, 3]),
        (vec![soft(3), soft(2), soft(1), well], vec![3, 3, 1, 0]),
        // Two of three are dead: that is not half of the one that is left.
        (vec![hard, hard, well], vec![3, 3, 0]),
        (vec![hard, hard, soft(1)], vec![3, 3, 1]),
        (vec![hard, soft(1), well], vec![3, 3, 0]),
    ] {
        assert_eq!(tiers(&all), wanted, "{all:?}");
    }
}
