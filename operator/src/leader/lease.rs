//! What is decided about the leader's lease: who may take it, what is written, and when a leader must stop. Time is an argument.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// After how long without a renewal another may take over.
const LEASE: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(5);
/// A leader that could not renew for this long stops, well before another starts.
const GIVE_UP: Duration = Duration::from_secs(10);
/// How soon a renewal that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a renewal may take: a call that hangs must leave time for another.
const ATTEMPT: Duration = Duration::from_secs(3);

/// The lease as a candidate writes it that has found `found`, if it may take it. `seen` is kept from one look to the next; `now` is
/// what time is measured by, `time` the time of day, of which others see only that it has changed.
pub fn take(
    found: Option<&LeaseSpec>,
    identity: &str,
    seen: &mut Option<(LeaseSpec, Instant)>,
    now: Instant,
    time: Timestamp,
) -> Option<LeaseSpec> {
    let may = found.is_none_or(|found| may_take(found, identity, seen, now));
    may.then(|| spec(identity, found, time))
}

/// The lease as its holder renews it; `None`: it is another's.
pub fn renew(found: &LeaseSpec, identity: &str, time: Timestamp) -> Option<LeaseSpec> {
    (found.holder_identity.as_deref() == Some(identity)).then(|| spec(identity, Some(found), time))
}

/// Whether `identity` may take a lease that says `spec`: it is free, or has not changed for [`LEASE`] since `seen`, which the caller
/// keeps from one look to the next.
fn may_take(spec: &LeaseSpec, identity: &str, seen: &mut Option<(LeaseSpec, Instant)>, now: Instant) -> bool {
    let free = spec
        .holder_identity
        .as_deref()
        .is_none_or(|holder| holder.is_empty() || holder == identity);
    // By this process' own clock: the holder's may be off.
    let unchanged_since = match seen {
        Some((before, since)) if *before == *spec => *since,
        _ => {
            *seen = Some((spec.clone(), now));
            now
        }
    };
    free || now.duration_since(unchanged_since) >= LEASE
}

/// The lease as `identity` writes it, over what it says.
fn spec(identity: &str, before: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
    let now = MicroTime(now);
    let mine = before.filter(|spec| spec.holder_identity.as_deref() == Some(identity));
    let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or_default();
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(LEASE.as_secs() as i32),
        acquire_time: mine.map_or_else(|| Some(now.clone()), |spec| spec.acquire_time.clone()),
        renew_time: Some(now),
        lease_transitions: Some(match (before, mine) {
            (Some(_), None) => transitions.saturating_add(1),
            _ => transitions,
        }),
        ..LeaseSpec::default()
    }
}

/// When a leader renews its lease, and when it must stop: no clock in it.
#[derive(Debug)]
pub struct Term {
    renewed: Instant,
    has_failed: bool,
}

impl Term {
    /// One that begins with a renewal.
    pub fn new(renewed: Instant) -> Self {
        Self {
            renewed,
            has_failed: false,
        }
    }

    /// The lease was renewed; `now` is when that was asked for.
    pub fn renewed(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// It could not be renewed.
    pub fn failed(&mut self) {
        self.has_failed = true;
    }

    /// How long until the next try.
    pub fn pause(&self) -> Duration {
        if self.has_failed { RETRY } else { RENEW }
    }

    /// How long the next try may take.
    pub fn patience(&self, now: Instant) -> Duration {
        GIVE_UP
            .saturating_sub(now.saturating_duration_since(self.renewed))
            .min(ATTEMPT)
    }

    /// Whether the leader must stop.
    pub fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.renewed) >= GIVE_UP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_when_it_is_free_or_unchanged_for_fifteen_seconds_whatever_time_stands_in_it() {
        let start = Instant::now();
        let (then, now) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let mut seen = None;
        let first = take(None, "a", &mut seen, start, now).expect("there is none yet");
        for other in [&first, &spec("a", None, then)] {
            let mut seen = None;
            for (second, takes) in [(0, false), (14, false), (15, true)] {
                let at = start + Duration::from_secs(second);
                let taken = take(Some(other), "b", &mut seen, at, then);
                assert_eq!(taken.is_some(), takes, "after {second} s");
            }
        }
        let mut freed = first;
        freed.holder_identity = None;
        let taken = take(Some(&freed), "b", &mut None, start, then).expect("it is free");
        assert_eq!(taken.lease_transitions, Some(1));
    }

    #[test]
    fn only_its_holder_renews_a_lease() {
        let mine = spec("a", None, Timestamp::UNIX_EPOCH);
        let renewed = renew(&mine, "a", Timestamp::MAX).expect("it is its own");
        assert_eq!(renewed.acquire_time, mine.acquire_time);
        assert_ne!(renewed.renew_time, mine.renew_time);
        assert_eq!(renew(&mine, "b", Timestamp::MAX), None);
    }

    /// Renewals that take so long and end like this, one after the other: when the term is over, in seconds.
    fn over_after(tries: impl IntoIterator<Item = (Duration, bool)>) -> Option<u64> {
        let start = Instant::now();
        let mut now = start;
        let mut term = Term::new(start);
        for (takes, works) in tries {
            now += term.pause();
            let asked = now;
            let patience = term.patience(now);
            now += takes.min(patience);
            if works && takes < patience {
                term.renewed(asked);
            } else {
                term.failed();
            }
            if term.is_over(now) {
                return Some(now.duration_since(start).as_secs());
            }
        }
        None
    }

    #[test]
    fn one_renewal_that_fails_does_not_end_a_term() {
        let at_once = Duration::from_millis(10);
        let tries = [true, false, true, false, false, true].map(|works| (at_once, works));
        assert_eq!(over_after(tries.into_iter().cycle().take(600)), None);
        let hangs = [(Duration::from_mins(1), true), (at_once, true)];
        assert_eq!(
            over_after(hangs.into_iter().cycle().take(600)),
            None,
            "a call that hangs leaves time for another"
        );
    }

    #[test]
    fn a_term_is_over_ten_seconds_after_the_last_renewal_five_before_anybody_else_starts() {
        for takes in [Duration::ZERO, Duration::from_secs(2), Duration::from_mins(1)] {
            let over = over_after(std::iter::repeat_n((takes, false), 100)).expect("it ends");
            assert!((10..=12).contains(&over), "{over} s with calls of {takes:?}");
        }
        assert!(GIVE_UP + ATTEMPT < LEASE);
    }
}
