//! The error function in double precision, for references: Rust's standard library has none.

/// erf(x) to about 1e-15.
pub(in crate::ops) fn erf(x: f64) -> f64 {
    let magnitude = x.abs();
    if x.is_nan() {
        x
    } else if magnitude < 3.0 {
        series(x)
    } else if magnitude < 6.0 {
        x.signum() * (1.0 - complement(magnitude))
    } else {
        x.signum()
    }
}

/// 2/√π · e^(-x²) · Σ 2ⁿ x²ⁿ⁺¹ / (1·3·5…(2n+1)): all terms have one sign, nothing cancels.
fn series(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// 1 - erf(x) for x ≥ 3 by its continued fraction, e^(-x²)/√π · 1/(x + (1/2)/(x + 1/(x + (3/2)/(x + …)))).
fn complement(x: f64) -> f64 {
    let fraction = (1..=120).rev().fold(x, |tail, n| x + f64::from(n) * 0.5 / tail);
    (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI * 0.5 / fraction
}

#[cfg(test)]
mod tests {
    use super::erf;

    #[test]
    fn agrees_with_the_tables() {
        // Abramowitz and Stegun, table 7.1, with the digits beyond from its successor, NIST DLMF 7.23.
        for (x, expected) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.0, 0.999_977_909_503_001_4),
            (4.0, 0.999_999_984_582_742_1),
        ] {
            assert!((erf(x) - expected).abs() < 2e-15, "erf({x})");
            assert!((erf(-x) + expected).abs() < 2e-15, "erf(-{x})");
        }
    }

    #[test]
    fn limits_and_nan() {
        assert_eq!(erf(f64::INFINITY).to_bits(), 1.0_f64.to_bits());
        assert_eq!(erf(f64::NEG_INFINITY).to_bits(), (-1.0_f64).to_bits());
        assert!(erf(f64::NAN).is_nan());
        assert_eq!(erf(-0.0).to_bits(), (-0.0_f64).to_bits());
    }

    #[test]
    fn series_and_fraction_meet() {
        assert!((super::series(3.0) - (1.0 - super::complement(3.0))).abs() < 1e-15);
    }
}
