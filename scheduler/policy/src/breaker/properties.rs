//! What holds whatever happens.

use std::time::Duration;

use proptest::prelude::*;

use super::{Event, Health, SOFT_LONGEST, Standing, State, due, standing, step, tiers};

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// An answer to what was begun so many milliseconds ago.
    Answered(u64),
    Other(Event),
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        (0..3000_u64).prop_map(Kind::Answered),
        Just(Kind::Other(Event::Fault)),
        Just(Kind::Other(Event::Unreachable)),
        Just(Kind::Other(Event::Hung)),
        Just(Kind::Other(Event::NotThere)),
        Just(Kind::Other(Event::Listed)),
    ]
}

/// What happened, each so many milliseconds after the one before, and a random number.
fn history() -> impl Strategy<Value = Vec<(u64, Kind, u64)>> {
    prop::collection::vec((0..8000_u64, kind(), any::<u64>()), 0..60)
}

fn live(history: &[(u64, Kind, u64)]) -> (State, Duration) {
    let mut now = Duration::from_secs(10);
    let mut state = State::default();
    for (later, kind, random) in history {
        now += Duration::from_millis(*later);
        let event = match kind {
            Kind::Answered(ago) => Event::Answered {
                started: now.saturating_sub(Duration::from_millis(*ago)),
            },
            Kind::Other(event) => *event,
        };
        state = step(&state, event, now, *random);
    }
    (state, now)
}

fn health() -> impl Strategy<Value = Health> {
    let standing = prop_oneof![
        Just(Standing::Well),
        Just(Standing::MayProbe),
        (any::<bool>(), 0..1000_u64).prop_map(|(hard, until)| Standing::Out {
            hard,
            until: Duration::from_millis(until)
        }),
    ];
    (standing, any::<bool>(), 0..4000_u64).prop_map(|(standing, accepts, silent)| Health {
        standing,
        accepts,
        silent: Duration::from_millis(silent),
    })
}

proptest! {
    #[test]
    fn an_answer_to_what_is_begun_now_makes_all_good(history in history()) {
        let (state, now) = live(&history);
        let after = step(&state, Event::Answered { started: now }, now, 0);
        prop_assert_eq!(standing(&after, now), Standing::Well);
    }

    #[test]
    fn no_pause_is_longer_than_the_longest_and_its_fifth(history in history()) {
        let (state, now) = live(&history);
        if let Some(until) = due(&state) {
            prop_assert!(until <= now + SOFT_LONGEST + SOFT_LONGEST / 5);
        }
    }

    #[test]
    fn at_most_one_request_at_a_time_goes_to_see(history in history(), later in 0..100_000_u64) {
        let (state, now) = live(&history);
        let now = now + Duration::from_millis(later);
        if standing(&state, now) == Standing::MayProbe {
            let probed = step(&state, Event::Probe, now, 0);
            let left_alone = matches!(standing(&probed, now), Standing::Out { .. });
            prop_assert!(left_alone);
        }
    }

    #[test]
    fn the_same_history_gives_the_same_state(history in history()) {
        prop_assert_eq!(live(&history), live(&history));
    }

    #[test]
    fn bad_answers_take_at_most_half_of_those_that_are_there(all in prop::collection::vec(health(), 0..12)) {
        let tiers = tiers(&all);
        let hard = |health: &Health| matches!(health.standing, Standing::Out { hard: true, .. });
        let there = all.iter().filter(|health| !hard(health)).count();
        let alone = all.iter().zip(&tiers).filter(|(health, tier)| !hard(health) && **tier == 3).count();
        prop_assert!(2 * alone <= there);
        for (health, tier) in all.iter().zip(&tiers) {
            prop_assert!(!hard(health) || *tier == 3);
            let out = matches!(health.standing, Standing::Out { .. });
            prop_assert!(!out || *tier > 0);
        }
    }
}
