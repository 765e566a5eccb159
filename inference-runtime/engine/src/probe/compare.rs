//! Two answers to the same question.

use std::cmp::Ordering;

use half::{bf16, f16};

use super::Comparison;
use crate::api::{Data, Datatype, NamedTensor, Tensor};
use crate::repository::Tolerance;

/// Compares `device` with `reference`, output by output; `Err` where they differ in more than values.
pub(super) fn compare(
    batch: usize,
    reference: &[NamedTensor],
    device: &[NamedTensor],
    tolerance: Tolerance,
) -> Result<Vec<Comparison>, String> {
    if reference.len() != device.len() {
        return Err(format!(
            "{} outputs on the device, {} on the CPU",
            device.len(),
            reference.len()
        ));
    }
    reference
        .iter()
        .zip(device)
        .map(|(r, d)| one(batch, r, &d.tensor, tolerance))
        .collect()
}

fn one(
    batch: usize,
    reference: &NamedTensor,
    device: &Tensor,
    tolerance: Tolerance,
) -> Result<Comparison, String> {
    let (name, reference) = (&reference.name, &reference.tensor);
    if reference.datatype != device.datatype || reference.shape != device.shape {
        return Err(format!(
            "output `{name}` is {} {:?} on the device and {} {:?} on the CPU",
            device.datatype.name(),
            device.shape,
            reference.datatype.name(),
            reference.shape
        ));
    }
    let mut comparison = Comparison {
        batch,
        output: name.clone(),
        ..Default::default()
    };
    let (Data::Fixed(a), Data::Fixed(b)) = (&reference.data, &device.data) else {
        comparison.beyond = usize::from(reference.data != device.data);
        return Ok(comparison);
    };
    let pairs = || numbers(reference.datatype, a).zip(numbers(device.datatype, b));
    let largest = pairs()
        .map(|(r, _)| r.abs())
        .filter(|r| r.is_finite())
        .fold(0.0, f64::max);
    let allowed = allowed(reference.datatype, tolerance, largest);
    for (r, d) in pairs() {
        // NaN agrees with NaN, an infinity with itself.
        let agree = r.partial_cmp(&d) == Some(Ordering::Equal) || (r.is_nan() && d.is_nan());
        let difference = if agree { 0.0 } else { (r - d).abs() };
        if difference.is_nan() || difference.is_infinite() {
            comparison.beyond += 1;
            comparison.max_absolute = f64::MAX;
            continue;
        }
        comparison.max_absolute = comparison.max_absolute.max(difference);
        comparison.beyond += usize::from(difference > allowed);
    }
    if largest > 0.0 {
        comparison.max_relative = (comparison.max_absolute / largest).min(f64::MAX);
    }
    Ok(comparison)
}

/// Most that an element may be off.
fn allowed(datatype: Datatype, tolerance: Tolerance, largest: f64) -> f64 {
    let relative = match datatype {
        // A few units in the last place of the format itself.
        Datatype::Fp16 => tolerance.relative.max(f64::from(f16::EPSILON) * 4.0),
        Datatype::Bf16 => tolerance.relative.max(f64::from(bf16::EPSILON) * 4.0),
        Datatype::Fp32 | Datatype::Fp64 => tolerance.relative,
        // Integers are right or wrong, unless the owner says otherwise.
        _ => return tolerance.absolute,
    };
    // All zeros in the reference: nothing to be relative to but the format's own resolution around 1.
    tolerance.absolute
        + relative
            * if largest > 0.0 {
                largest
            } else {
                f64::from(f32::EPSILON)
            }
}

/// The elements as `f64`. 64-bit integers beyond 2⁵³ round; equal ones stay equal.
fn numbers(datatype: Datatype, bytes: &[u8]) -> Box<dyn Iterator<Item = f64> + '_> {
    macro_rules! read {
        ($t:ty, $convert:expr) => {
            Box::new(
                bytes
                    .chunks_exact(size_of::<$t>())
                    .map(|c| $convert(<$t>::from_le_bytes(c.try_into().unwrap_or_default()))),
            )
        };
    }
    match datatype {
        Datatype::Fp32 => read!(f32, f64::from),
        Datatype::Fp64 => read!(f64, f64::from),
        Datatype::Fp16 => read!(f16, f64::from),
        Datatype::Bf16 => read!(bf16, f64::from),
        Datatype::Int8 => read!(i8, f64::from),
        Datatype::Int16 => read!(i16, f64::from),
        Datatype::Int32 => read!(i32, f64::from),
        Datatype::Int64 => read!(i64, |v| v as f64),
        Datatype::Uint16 => read!(u16, f64::from),
        Datatype::Uint32 => read!(u32, f64::from),
        Datatype::Uint64 => read!(u64, |v| v as f64),
        Datatype::Bool | Datatype::Uint8 | Datatype::Bytes => read!(u8, f64::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32]) -> NamedTensor {
        NamedTensor {
            name: "y".into(),
            tensor: Tensor {
                datatype: Datatype::Fp32,
                shape: vec![values.len()],
                data: Data::Fixed(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            },
        }
    }

    fn longs(values: &[i64]) -> NamedTensor {
        NamedTensor {
            name: "n".into(),
            tensor: Tensor {
                datatype: Datatype::Int64,
                shape: vec![values.len()],
                data: Data::Fixed(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            },
        }
    }

    fn beyond(a: &NamedTensor, b: &NamedTensor) -> usize {
        let tolerance = Tolerance {
            relative: 1e-3,
            absolute: 0.0,
        };
        compare(1, std::slice::from_ref(a), std::slice::from_ref(b), tolerance).unwrap()[0].beyond
    }

    #[test]
    fn differences_are_measured_against_the_outputs_own_magnitude() {
        assert_eq!(beyond(&floats(&[100.0, 0.0]), &floats(&[100.0, 0.09])), 0);
        assert_eq!(beyond(&floats(&[100.0, 0.0]), &floats(&[100.0, 0.11])), 1);
        assert_eq!(
            beyond(&floats(&[0.0]), &floats(&[1e-5])),
            1,
            "nothing to be relative to"
        );
        let c = &compare(2, &[floats(&[4.0])], &[floats(&[3.0])], Tolerance::default()).unwrap()[0];
        assert!(
            (c.max_absolute - 1.0).abs() < 1e-12 && (c.max_relative - 0.25).abs() < 1e-12,
            "{c:?}"
        );
    }

    #[test]
    fn nan_agrees_with_nan_and_with_nothing_else() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        assert_eq!(
            beyond(&floats(&[nan, inf, -inf, 1.0]), &floats(&[-nan, inf, -inf, 1.0])),
            0
        );
        assert_eq!(beyond(&floats(&[nan, inf, 1.0]), &floats(&[1.0, -inf, nan])), 3);
    }

    #[test]
    fn integers_and_shapes_are_exact() {
        assert_eq!(beyond(&longs(&[1_000_000]), &longs(&[1_000_001])), 1);
        assert_eq!(beyond(&longs(&[i64::MAX]), &longs(&[i64::MAX])), 0);
        assert!(compare(1, &[floats(&[1.0])], &[floats(&[1.0, 2.0])], Tolerance::default()).is_err());
        assert!(compare(1, &[floats(&[1.0])], &[longs(&[1])], Tolerance::default()).is_err());
        assert!(compare(1, &[floats(&[1.0])], &[], Tolerance::default()).is_err());
    }
}
