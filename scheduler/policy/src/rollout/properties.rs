//! Whatever the state, a step keeps its promises; and steps end.

use proptest::prelude::*;

use super::decide::{is_active, serves};
use super::{Replica, Step, Wanted, step};

fn replica() -> impl Strategy<Value = Replica> {
    (
        1..4_i64,
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(revision, ready, failed, lost, leaving)| Replica {
            name: String::new(),
            revision,
            ready: ready && !failed,
            failed,
            lost,
            leaving,
        })
}

fn replicas() -> impl Strategy<Value = Vec<Replica>> {
    prop::collection::vec(replica(), 0..12).prop_map(|mut replicas| {
        for (index, replica) in replicas.iter_mut().enumerate() {
            replica.name = format!("start-{index:02}");
        }
        replicas
    })
}

fn wanted() -> impl Strategy<Value = Wanted> {
    (0..6_u32, 0..4_u32, 0..4_u32).prop_map(|(replicas, max_surge, max_unavailable)| Wanted {
        revision: 3,
        replicas,
        max_surge,
        max_unavailable,
    })
}

fn surge(wanted: Wanted) -> usize {
    if wanted.max_surge == 0 && wanted.max_unavailable == 0 {
        1
    } else {
        wanted.max_surge as usize
    }
}

fn serving(replicas: &[Replica]) -> usize {
    replicas.iter().filter(|replica| serves(replica)).count()
}

/// The API after a step: what is deleted is marked, what is made is loading.
fn applied(replicas: &[Replica], now: &Step, round: usize, wanted: Wanted) -> Vec<Replica> {
    let mut after = replicas.to_vec();
    for replica in &mut after {
        replica.leaving |= now.delete.contains(&replica.name);
    }
    for index in 0..now.create {
        after.push(Replica {
            name: format!("made-{round:03}-{index}"),
            revision: wanted.revision,
            ready: false,
            failed: false,
            lost: false,
            leaving: false,
        });
    }
    after
}

/// The floor that may not be undercut from this state.
fn floor(before: &[Replica], wanted: Wanted) -> usize {
    serving(before).min(wanted.replicas.saturating_sub(wanted.max_unavailable) as usize)
}

/// So many replicas that serve the first revision.
fn serving_first(count: usize) -> Vec<Replica> {
    (0..count)
        .map(|index| Replica {
            name: format!("start-{index}"),
            revision: 1,
            ready: true,
            failed: false,
            lost: false,
            leaving: false,
        })
        .collect()
}

proptest! {
    #[test]
    fn a_step_never_lets_go_of_what_must_serve(before in replicas(), wanted in wanted()) {
        let after = applied(&before, &step(&before, wanted), 0, wanted);
        prop_assert!(serving(&after) >= floor(&before, wanted));
    }

    #[test]
    fn a_step_never_makes_more_than_the_surge_allows(before in replicas(), wanted in wanted()) {
        let now = step(&before, wanted);
        let active = before.iter().filter(|replica| is_active(replica)).count();
        let limit = wanted.replicas as usize + surge(wanted);
        prop_assert!(now.create == 0 || active + now.create as usize <= limit);
    }

    #[test]
    fn a_step_names_only_what_is_there_once_and_not_what_is_leaving(before in replicas(), wanted in wanted()) {
        let mut names = step(&before, wanted).delete;
        let all = names.len();
        for name in &names {
            prop_assert!(before.iter().any(|replica| &replica.name == name && !replica.leaving));
        }
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), all);
    }

    #[test]
    fn the_order_in_which_replicas_are_listed_does_not_matter(before in replicas(), wanted in wanted()) {
        let mut reversed = before.clone();
        reversed.reverse();
        prop_assert_eq!(step(&before, wanted), step(&reversed, wanted));
    }

    /// `pace` says who becomes ready or disappears in a round; in the last rounds all do.
    #[test]
    fn a_rollout_converges_from_any_state_and_never_drops_below(
        start in replicas(),
        wanted in wanted(),
        pace in prop::collection::vec(any::<u16>(), 24),
    ) {
        let mut state = start;
        for replica in &mut state {
            // Failures at the start may use up the tries; they have a property of their own.
            replica.failed = false;
        }
        for round in 0..64 {
            let before = floor(&state, wanted);
            let now = step(&state, wanted);
            state = applied(&state, &now, round, wanted);
            prop_assert!(serving(&state) >= before, "round {round} dropped below");
            let bits = pace.get(round).copied().unwrap_or(u16::MAX);
            let mut index = 0;
            state.retain_mut(|replica| {
                let moves = bits >> (index % 16) & 1 == 1;
                index += 1;
                if moves && replica.leaving {
                    return false;
                }
                replica.ready |= moves && !replica.lost;
                true
            });
        }
        prop_assert!(step(&state, wanted).is_empty());
        prop_assert_eq!(state.len(), wanted.replicas as usize);
        prop_assert!(state.iter().all(|replica| serves(replica) && replica.revision == wanted.revision));
    }

    /// `hiccups` says which of the old ones serve in a round; the newest only ever load, or fail.
    #[test]
    fn a_rollout_that_is_stuck_never_takes_old_ones_that_may_serve_again(
        old in 0..6_usize,
        wanted in wanted(),
        fails in any::<bool>(),
        hiccups in prop::collection::vec(any::<u8>(), 24),
    ) {
        let mut state = serving_first(old);
        let least = old.min(wanted.replicas.saturating_sub(wanted.max_unavailable) as usize);
        for (round, bits) in hiccups.into_iter().enumerate() {
            let now = step(&state, wanted);
            state = applied(&state, &now, round, wanted);
            state.retain(|replica| !replica.leaving);
            let mut index = 0;
            for replica in &mut state {
                if replica.revision == wanted.revision {
                    replica.failed |= fails;
                } else {
                    replica.ready = bits >> index & 1 == 1;
                    index += 1;
                }
            }
            prop_assert!(index >= least, "round {round}: {index} old ones are left of {least}");
        }
    }

    #[test]
    fn a_revision_that_fails_everywhere_is_given_up_and_the_old_one_serves_on(
        old in 0..6_usize,
        wanted in wanted(),
    ) {
        let mut state = serving_first(old);
        let mut made = 0;
        for round in 0..64 {
            let before = floor(&state, wanted);
            let now = step(&state, wanted);
            made += now.create as usize;
            state = applied(&state, &now, round, wanted);
            prop_assert!(serving(&state) >= before);
            state.retain(|replica| !replica.leaving);
            for replica in &mut state {
                replica.failed |= replica.revision == wanted.revision;
            }
        }
        prop_assert!(step(&state, wanted).is_empty());
        prop_assert!(made <= wanted.replicas as usize + surge(wanted).max(1), "made {made}");
    }
}
