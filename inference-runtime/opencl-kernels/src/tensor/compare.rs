//! Comparing tensors within a tolerance.

use super::HostTensor;

/// How far a device may be from the reference: `|a - b| <= absolute + relative * |b|`. Integers must be equal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Allowed everywhere.
    pub absolute: f32,
    /// Allowed in proportion to the reference.
    pub relative: f32,
}

impl Tolerance {
    /// Bit by bit, except that zeros of either sign and NaNs of any kind are alike.
    pub fn exact() -> Self {
        Self {
            absolute: 0.0,
            relative: 0.0,
        }
    }
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            absolute: 1e-5,
            relative: 1e-4,
        }
    }
}

/// The first difference in words: shapes and types count exactly, floats within the tolerance (NaN equals NaN), the
/// rest bit by bit.
pub fn difference(actual: &[HostTensor], expected: &[HostTensor], tolerance: Tolerance) -> Option<String> {
    if actual.len() != expected.len() {
        return Some(format!("{} outputs instead of {}", actual.len(), expected.len()));
    }
    let pairs = actual.iter().zip(expected).enumerate();
    pairs.into_iter().find_map(|(output, (actual, expected))| {
        if actual.ty() != expected.ty() {
            return Some(format!(
                "output {output} is {} instead of {}",
                actual.ty(),
                expected.ty()
            ));
        }
        let place = |i: usize| format!("output {output}, element {i} of {}", expected.ty());
        let (Some(a), Some(b)) = (actual.to_f32(), expected.to_f32()) else {
            let size = expected.dtype().size();
            let differs = actual
                .bytes()
                .iter()
                .zip(expected.bytes())
                .position(|(a, b)| a != b)?;
            let i = differs / size;
            let element = |t: &HostTensor| t.bytes()[i * size..(i + 1) * size].to_vec();
            return Some(format!(
                "{}: bytes {:?} instead of {:?}",
                place(i),
                element(actual),
                element(expected)
            ));
        };
        let far = |(&a, &b): (&f32, &f32)| {
            // An infinite reference allows nothing else; without this its tolerance would be infinite too.
            let close = b.is_finite() && (a - b).abs() <= tolerance.absolute + tolerance.relative * b.abs();
            let same_infinity = b.is_infinite() && a.total_cmp(&b).is_eq();
            !(close || same_infinity || (a.is_nan() && b.is_nan()))
        };
        let i = a.iter().zip(&b).position(far)?;
        Some(format!("{}: {} instead of {}", place(i), a[i], b[i]))
    })
}
