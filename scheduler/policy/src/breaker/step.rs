//! `(state, event, time, random) → state`.

use std::time::Duration;

use super::{BUCKETS, Cause, ENOUGH, Event, GOOD_PERCENT, IN_A_ROW, Out, State, Window};

/// The state after an event. `random` spreads pauses by up to a fifth, so that those who lost the same engine do not all come
/// back at the same moment; any number will do.
///
/// ```
/// use std::time::Duration;
/// use afterglow_policy::breaker::{Event, Standing, State, standing, step};
///
/// let at = Duration::from_millis;
/// let broken = step(&State::default(), Event::NotThere, at(0), 0);
/// assert!(matches!(standing(&broken, at(499)), Standing::Out { hard: true, .. }));
/// assert_eq!(standing(&broken, at(500)), Standing::MayProbe);
///
/// let probed = step(&broken, Event::Probe, at(500), 0);
/// assert!(matches!(standing(&probed, at(501)), Standing::Out { .. }), "one goes, not all");
/// let well = step(&probed, Event::Answered { started: at(500) }, at(520), 0);
/// assert_eq!(standing(&well, at(520)), Standing::Well);
/// ```
pub fn step(state: &State, event: Event, now: Duration, random: u64) -> State {
    let mut next = *state;
    match event {
        Event::Answered { started } => {
            if next.out.is_some_and(|out| started < out.since) {
                return next;
            }
            if next.out.is_some() {
                // What it did wrong before is over; it begins anew.
                next = State::default();
            }
            next.row = 0;
            next.pause = Duration::ZERO;
            next.window.count(true, now);
            next
        }
        Event::Fault => {
            next.row = next.row.saturating_add(1);
            next.window.count(false, now);
            let (good, all) = next.window.sums();
            let many = all >= ENOUGH && u64::from(good) * 100 < u64::from(all) * u64::from(GOOD_PERCENT);
            if next.row >= IN_A_ROW || many || next.out.is_some() {
                next.leave_alone(Cause::Faults, now, random);
            }
            next
        }
        Event::Unreachable => next.with(Cause::Unreachable, now, random),
        Event::Hung => next.with(Cause::Hung, now, random),
        Event::NotThere => next.with(Cause::NotThere, now, random),
        Event::Listed => {
            if next.out.is_some_and(|out| out.cause == Cause::NotThere) {
                next.out = None;
            }
            next
        }
        Event::Probe => {
            if let Some(out) = &mut next.out {
                out.probe = Some(now);
            }
            next
        }
    }
}

/// Until when it is left alone, if it is; who keeps a connection tries again then.
///
/// ```
/// use std::time::Duration;
/// use afterglow_policy::breaker::{Event, HARD_FIRST, State, due, step};
///
/// assert_eq!(due(&State::default()), None);
/// let lost = step(&State::default(), Event::Unreachable, Duration::ZERO, 0);
/// assert_eq!(due(&lost), Some(HARD_FIRST));
/// ```
pub fn due(state: &State) -> Option<Duration> {
    state.out.map(|out| out.until)
}

impl State {
    fn with(mut self, cause: Cause, now: Duration, random: u64) -> Self {
        self.leave_alone(cause, now, random);
        self
    }

    /// What fails together counts once: while a pause lasts nothing prolongs it, but a hard cause outranks a soft one. Who cannot
    /// be reached is that until an answer comes.
    fn leave_alone(&mut self, cause: Cause, now: Duration, random: u64) {
        if let Some(out) = &self.out {
            let paused = out.until > now && (out.cause.hard() || !cause.hard());
            if paused || (out.cause == Cause::Unreachable && cause != Cause::Unreachable) {
                return;
            }
        }
        let (first, longest) = cause.pauses();
        self.pause = (2 * self.pause).clamp(first, longest);
        let jitter = self.pause / 5 * (random % 1024) as u32 / 1024;
        self.out = Some(Out {
            cause,
            since: now,
            until: now + self.pause + jitter,
            probe: None,
        });
    }
}

impl Window {
    fn count(&mut self, good: bool, now: Duration) {
        let second = now.as_secs().max(self.second);
        let passed = (second - self.second).min(BUCKETS as u64);
        for past in 0..passed {
            self.buckets[(second - past) as usize % BUCKETS] = (0, 0);
        }
        self.second = second;
        let bucket = &mut self.buckets[second as usize % BUCKETS];
        bucket.0 = bucket.0.saturating_add(u32::from(good));
        bucket.1 = bucket.1.saturating_add(1);
    }

    /// Good and all.
    fn sums(&self) -> (u32, u32) {
        self.buckets.iter().fold((0, 0), |(good, all), bucket| {
            (
                u32::saturating_add(good, bucket.0),
                u32::saturating_add(all, bucket.1),
            )
        })
    }
}
