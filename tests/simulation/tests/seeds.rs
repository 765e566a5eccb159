//! A thousand histories, what they must have seen, and the bugs that they must find.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use afterglow_simulation::{Bug, Outcome, Sight, run};

/// How many histories are lived through.
const SEEDS: u64 = 1000;

/// Lives through seeds on every core, as long as `wants_more` says so of each outcome.
fn on_all_cores(bug: Option<Bug>, wants_more: impl Fn(u64, Outcome) -> bool + Sync) {
    let next = AtomicU64::new(0);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS || !wants_more(seed, run(seed, bug, false)) {
                        // The others stop, too.
                        next.store(SEEDS, Ordering::Relaxed);
                        return;
                    }
                }
            });
        }
    });
}

#[test]
fn no_history_of_a_thousand_breaks_a_rule_and_together_they_have_seen_everything() {
    let sights: Mutex<BTreeMap<Sight, u64>> = Mutex::default();
    let broken: Mutex<BTreeMap<u64, String>> = Mutex::default();
    on_all_cores(None, |seed, outcome| {
        let mut sights = sights.lock().unwrap_or_else(PoisonError::into_inner);
        for (sight, count) in outcome.sights {
            *sights.entry(sight).or_default() += count;
        }
        if let Some(why) = outcome.violation {
            broken
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(seed, why);
        }
        true
    });
    let broken = broken.into_inner().unwrap();
    let first: Vec<_> = broken.iter().take(5).collect();
    assert!(
        broken.is_empty(),
        "{} of {SEEDS} seeds break a rule, replay one with `make sim SEED=…`: {first:#?}",
        broken.len()
    );
    let sights = sights.into_inner().unwrap();
    println!("{sights:#?}");
    let mut unseen = Sight::ALL.to_vec();
    unseen.retain(|sight| !sights.contains_key(sight));
    assert!(
        unseen.is_empty(),
        "never seen, the histories are too tame: {unseen:?}"
    );
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let found: Mutex<Option<(u64, String)>> = Mutex::default();
        on_all_cores(Some(bug), |seed, outcome| {
            let Some(why) = outcome.violation else { return true };
            found
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert((seed, why));
            false
        });
        let found = found.into_inner().unwrap();
        match found {
            Some((seed, why)) => println!("{bug:?}: seed {seed}: {why}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "found by none of {SEEDS} seeds: {missed:?}");
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..50 {
        let (first, second) = (run(seed, None, false), run(seed, None, true));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.events, second.events, "seed {seed}");
        assert!(
            first.lines.is_empty() && !second.lines.is_empty(),
            "lines are kept when asked for"
        );
    }
    assert_ne!(run(1, None, false).hash, run(2, None, false).hash);
}
