//! When an answer is worthless: `grpc-timeout`, and the `timeout` parameter of the schedule-policy extension.

use std::time::{Duration, Instant};

use crate::api::{Error, Result};

/// The earlier of the wishes, cut to `longest`; `None` where the client has none.
pub(crate) fn after(
    arrival: Instant,
    longest: Duration,
    wishes: impl IntoIterator<Item = Option<Duration>>,
) -> Option<Instant> {
    let shortest = wishes.into_iter().flatten().min()?;
    arrival.checked_add(shortest.min(longest))
}

/// The value of a `grpc-timeout` header: at most eight digits and a unit.
pub(crate) fn grpc_timeout(value: &str) -> Result<Duration> {
    let refused = || {
        Error::invalid(format!(
            "grpc-timeout `{value}` is not up to 8 digits and one of H M S m u n"
        ))
    };
    let (digits, unit) = value
        .split_at_checked(value.len().saturating_sub(1))
        .ok_or_else(refused)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refused());
    }
    let count: u64 = digits.parse().map_err(|_| refused())?;
    Ok(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return Err(refused()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_of_grpc_timeout_is_read() {
        let table = [
            ("1H", Duration::from_hours(1)),
            ("2M", Duration::from_mins(2)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ];
        for (text, wanted) in table {
            assert_eq!(grpc_timeout(text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn a_malformed_grpc_timeout_is_refused() {
        for text in ["", "S", "1", "1s", "123456789S", "-1S", "1.5S", "1é"] {
            assert!(grpc_timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_earliest_wish_wins_and_the_longest_is_cut() {
        let now = Instant::now();
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        assert_eq!(after(now, minute, [None, None]), None);
        assert_eq!(
            after(now, minute, [Some(second), Some(minute)]),
            Some(now + second)
        );
        assert_eq!(after(now, second, [Some(Duration::MAX)]), Some(now + second));
    }
}
