//! Virtual time. Nothing in the world looks at a real clock; the one `Instant` that is taken is only what differences are
//! counted from.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

/// Since the world began.
pub type Time = Duration;

/// The second at which the world begins, as its API server tells time: 2026-01-01.
const BEGINNING: i64 = 1_767_225_600;

/// Turns virtual time into what our code takes for time.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock of its own for each world, which begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// As a process measures it.
    pub fn instant(self, now: Time) -> Instant {
        self.0 + now
    }

    /// As a process on tokio measures it.
    pub fn ticks(self, now: Time) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.instant(now))
    }
}

/// The time of day, to the microsecond, by a clock that is `skew` seconds off.
pub fn of_day(now: Time, skew: i64) -> Timestamp {
    let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_microsecond((BEGINNING + skew) * 1_000_000 + micros).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The same to the second, as Kubernetes keeps it.
pub fn to_second(now: Time, skew: i64) -> Timestamp {
    let whole = of_day(now, skew).as_second();
    Timestamp::from_second(whole).unwrap_or(Timestamp::UNIX_EPOCH)
}
