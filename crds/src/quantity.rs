//! Sizes as Kubernetes writes them, in bytes.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// `512Mi` → 536870912; fractions of a byte are rounded up. `None` for what is no size.
pub fn bytes(quantity: &Quantity) -> Option<u64> {
    let text = quantity.0.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']).filter(|rest| !rest.is_empty()) {
        let exponent: i32 = exponent.parse().ok()?;
        return whole(number.parse::<f64>().ok()? * 10f64.powi(exponent));
    }
    let factor: f64 = match suffix {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024f64,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        _ => return None,
    };
    if factor >= 1.0
        && let Ok(exact) = number.parse::<u64>()
    {
        return exact.checked_mul(factor as u64);
    }
    whole(number.parse::<f64>().ok()? * factor)
}

/// The shortest exact way to write a number of bytes.
pub fn quantity(bytes: u64) -> Quantity {
    for (shift, suffix) in [(30, "Gi"), (20, "Mi"), (10, "Ki")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return Quantity(format!("{}{suffix}", bytes >> shift));
        }
    }
    Quantity(bytes.to_string())
}

fn whole(value: f64) -> Option<u64> {
    (value.is_finite() && value >= 0.0 && value < u64::MAX as f64).then(|| value.ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_kubernetes_means_them() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("512Mi", Some(512 << 20)),
            ("8Gi", Some(8 << 30)),
            ("1.5Gi", Some(3 << 29)),
            ("1e9", Some(1_000_000_000)),
            ("2E3", Some(2000)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("1500m", Some(2)),
            ("12G", Some(12_000_000_000)),
            ("9223372036854775807", Some(9_223_372_036_854_775_807)),
            ("", None),
            ("4 gigs", None),
            ("-1", None),
            ("99999999999Ei", None),
        ] {
            assert_eq!(bytes(&Quantity(text.to_owned())), wanted, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(value: u64) {
            proptest::prop_assert_eq!(bytes(&quantity(value)), Some(value));
        }
    }
}
