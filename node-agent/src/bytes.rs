//! Sizes as Kubernetes writes them.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const UNITS: [(&str, u64); 12] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("k", 1_000),
    ("K", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("", 1),
];

/// Bytes of a quantity; `None` where it is no whole, non-negative size.
pub fn parse(text: &str) -> Option<u64> {
    let (number, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let part = if fraction.is_empty() {
        0
    } else {
        let scale = 10u128.pow(fraction.len() as u32);
        u64::try_from(fraction.parse::<u128>().ok()? * u128::from(unit) / scale).ok()?
    };
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(part)
}

/// The largest binary unit that says it exactly: `8Gi`, not `8589934592`.
pub fn quantity(bytes: u64) -> Quantity {
    let unit = UNITS[..5]
        .iter()
        .rev()
        .find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    Quantity(match unit {
        Some((suffix, unit)) => format!("{}{suffix}", bytes / unit),
        None => bytes.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_kubernetes_writes_them() {
        for (text, bytes) in [
            ("8Gi", 8 << 30),
            ("1.5Gi", 3 << 29),
            ("500M", 500_000_000),
            ("12k", 12_000),
            ("17542885376", 17_542_885_376),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for wrong in ["", "Gi", "-1", "1e3", "five", "1.2.3", "99999999Pi"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_size_is_written_in_the_largest_unit_that_says_it_exactly() {
        assert_eq!(quantity(8 << 30).0, "8Gi");
        assert_eq!(quantity(17_542_885_376).0, "17131724Ki");
        assert_eq!(quantity(1001).0, "1001");
        assert_eq!(quantity(0).0, "0");
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes: u64) {
            proptest::prop_assert_eq!(parse(&quantity(bytes).0), Some(bytes));
        }
    }
}
