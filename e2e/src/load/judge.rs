//! What a ledger says: pure functions of its entries.

use std::fmt::Write as _;
use std::time::Duration;

use super::ledger::{Entry, Outcome};

/// Of so many requests so many were bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Requests that were scheduled.
    pub all: usize,
    /// Those without a right answer, for whatever reason.
    pub bad: usize,
    /// Of these, those with an answer that is not right.
    pub wrong: usize,
}

impl Share {
    /// The good ones' share; 0 where nothing was asked.
    pub fn good(&self) -> f64 {
        if self.all == 0 {
            return 0.0;
        }
        (self.all - self.bad) as f64 / self.all as f64
    }
}

/// All of them.
pub fn share(entries: &[Entry]) -> Share {
    Share {
        all: entries.len(),
        bad: entries.iter().filter(|entry| !entry.good()).count(),
        wrong: entries
            .iter()
            .filter(|entry| matches!(entry.outcome, Outcome::Wrong(_)))
            .count(),
    }
}

/// Those that were scheduled from `from` on and before `to`.
pub fn between(entries: &[Entry], from: Duration, to: Duration) -> Vec<Entry> {
    entries
        .iter()
        .filter(|entry| (from..to).contains(&entry.scheduled))
        .cloned()
        .collect()
}

/// Those that were under way at some time from `from` on, and were to be sent before `to`: what a fault at `from` may have hurt.
pub fn during(entries: &[Entry], from: Duration, to: Duration) -> Vec<Entry> {
    entries
        .iter()
        .filter(|entry| entry.done >= from && entry.scheduled < to)
        .cloned()
        .collect()
}

/// From a strike to the first right answer for a request that was to be sent at or after it.
pub fn first_success(entries: &[Entry], strike: Duration) -> Option<Duration> {
    entries
        .iter()
        .filter(|entry| entry.good() && entry.scheduled >= strike)
        .map(|entry| entry.done.saturating_sub(strike))
        .min()
}

/// How long after a strike the last request that went bad was to be sent: from then on nothing goes where nobody answers.
/// Zero where none went bad.
pub fn last_bad(entries: &[Entry], strike: Duration, until: Duration) -> Duration {
    entries
        .iter()
        .filter(|entry| !entry.good() && (strike..until).contains(&entry.scheduled))
        .map(|entry| entry.scheduled.saturating_sub(strike))
        .max()
        .unwrap_or_default()
}

/// The longest time without any right answer, from the first one on.
pub fn longest_gap(entries: &[Entry]) -> Duration {
    let mut answers: Vec<Duration> = entries
        .iter()
        .filter(|entry| entry.good())
        .map(|entry| entry.done)
        .collect();
    answers.sort_unstable();
    answers
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .max()
        .unwrap_or_default()
}

/// The longest wait for a right answer.
pub fn slowest(entries: &[Entry]) -> Duration {
    entries
        .iter()
        .filter(|entry| entry.good())
        .map(Entry::took)
        .max()
        .unwrap_or_default()
}

/// The worst, worst first: wrong ones, bad ones, then the slowest.
pub fn worst(entries: &[Entry], count: usize) -> Vec<&Entry> {
    let grade = |entry: &Entry| match entry.outcome {
        Outcome::Wrong(_) => 0,
        Outcome::Failed { .. } => 1,
        Outcome::Unsent => 2,
        Outcome::Right => 3,
    };
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by_key(|entry| (grade(entry), std::cmp::Reverse(entry.took()), entry.number));
    sorted.truncate(count);
    sorted
}

/// The worst in words, a line each.
pub fn shown(entries: &[Entry], count: usize) -> String {
    let mut text = String::new();
    for entry in worst(entries, count) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n      {entry}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Way;

    /// Sent when scheduled, at so many tenths of a second, and answered so many tenths later.
    fn entry(tenth: u64, took: u64, outcome: Outcome) -> Entry {
        let at = |tenths| Duration::from_millis(100 * tenths);
        Entry {
            number: tenth,
            way: Way::Rest,
            scheduled: at(tenth),
            sent: at(tenth),
            done: at(tenth + took),
            outcome,
            replica: None,
            connects: 1,
        }
    }

    fn failed() -> Outcome {
        Outcome::Failed {
            status: "503".to_owned(),
            why: "no replica".to_owned(),
        }
    }

    /// A fault strikes at 1 s: two in flight and later ones fail, and at 2.4 s all is well.
    fn history() -> Vec<Entry> {
        let outcome = |tenth| match tenth {
            10..=12 => failed(),
            13 => Outcome::Wrong("another's".to_owned()),
            20 => Outcome::Unsent,
            _ => Outcome::Right,
        };
        (0..40)
            .map(|tenth| entry(tenth, if tenth == 14 { 8 } else { 1 }, outcome(tenth)))
            .collect()
    }

    #[test]
    fn whatever_is_not_right_is_bad_and_a_wrong_answer_is_told_apart() {
        let share = share(&history());
        assert_eq!((share.all, share.bad, share.wrong), (40, 5, 1));
        assert!((share.good() - 0.875).abs() < 1e-9);
        assert!(super::share(&[]).good() < 0.1, "nothing asked is nothing proven");
    }

    #[test]
    fn the_first_success_is_the_first_to_end_of_those_sent_after_the_strike() {
        // Sent at 1.4 s it ended at 2.2 s; the one of 1.5 s ended at 1.6 s.
        assert_eq!(
            first_success(&history(), Duration::from_secs(1)),
            Some(Duration::from_millis(600))
        );
        assert_eq!(first_success(&history(), Duration::from_mins(1)), None);
    }

    #[test]
    fn traffic_is_off_when_the_last_bad_request_was_sent() {
        let (strike, until) = (Duration::from_secs(1), Duration::from_secs(4));
        assert_eq!(last_bad(&history(), strike, until), Duration::from_secs(1));
        assert_eq!(
            last_bad(&history(), strike, Duration::from_millis(1900)),
            Duration::from_millis(300)
        );
        assert_eq!(
            last_bad(&history(), Duration::from_secs(3), until),
            Duration::ZERO
        );
    }

    #[test]
    fn a_gap_is_between_right_answers_only() {
        // The last before ended at 1.0 s, the first after at 1.6 s.
        assert_eq!(longest_gap(&history()), Duration::from_millis(600));
        assert_eq!(longest_gap(&[]), Duration::ZERO);
        assert_eq!(slowest(&history()), Duration::from_millis(800));
    }

    #[test]
    fn the_worst_come_first() {
        let history = history();
        let worst: Vec<u64> = worst(&history, 6).iter().map(|entry| entry.number).collect();
        assert_eq!(worst, [13, 10, 11, 12, 20, 14]);
    }

    #[test]
    fn what_was_under_way_when_a_fault_struck_is_hurt_by_it() {
        let (from, to) = (Duration::from_millis(1450), Duration::from_millis(1550));
        let numbers: Vec<u64> = during(&history(), from, to)
            .iter()
            .map(|entry| entry.number)
            .collect();
        assert_eq!(numbers, [14, 15], "the one of 1.3 s had ended");
    }

    #[test]
    fn a_window_holds_what_was_scheduled_in_it() {
        let window = between(&history(), Duration::from_secs(1), Duration::from_secs(2));
        let numbers: Vec<u64> = window.iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, (10..20).collect::<Vec<u64>>());
    }
}
