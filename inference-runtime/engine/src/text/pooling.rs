//! Token vectors into one vector.

use crate::repository::Pooling;

/// One vector from `tokens` (row-major `[length, dimension]`, padding already left out). `length` is at least 1.
pub(super) fn pool(tokens: &[f32], dimension: usize, pooling: Pooling) -> Vec<f32> {
    let rows = tokens.chunks_exact(dimension);
    match pooling {
        Pooling::Cls => rows.take(1).flatten().copied().collect(),
        Pooling::LastToken => rows.last().unwrap_or_default().to_vec(),
        Pooling::Max => {
            let mut largest = vec![f32::NEG_INFINITY; dimension];
            for row in rows {
                largest.iter_mut().zip(row).for_each(|(l, &v)| *l = l.max(v));
            }
            largest
        }
        Pooling::Mean => {
            let count = rows.len().max(1) as f64;
            let mut sum = vec![0f64; dimension];
            for row in rows {
                sum.iter_mut().zip(row).for_each(|(s, &v)| *s += f64::from(v));
            }
            sum.into_iter().map(|s| (s / count) as f32).collect()
        }
    }
}

/// Scales to length 1; a vector of zeros stays one.
pub(super) fn normalize(vector: &mut [f32]) {
    let length = vector
        .iter()
        .map(|&v| f64::from(v) * f64::from(v))
        .sum::<f64>()
        .sqrt();
    if length > 0.0 {
        for v in vector {
            *v = (f64::from(*v) / length) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pooling_takes_what_its_name_says() {
        let tokens = [1.0, -2.0, 3.0, -4.0, 5.0, 0.0];
        assert_eq!(pool(&tokens, 2, Pooling::Cls), [1.0, -2.0]);
        assert_eq!(pool(&tokens, 2, Pooling::LastToken), [5.0, 0.0]);
        assert_eq!(pool(&tokens, 2, Pooling::Max), [5.0, 0.0]);
        assert_eq!(pool(&tokens, 2, Pooling::Mean), [3.0, -2.0]);
    }

    #[test]
    fn vectors_get_length_one_and_zero_stays_zero() {
        let mut vector = [3.0, 4.0];
        normalize(&mut vector);
        assert_eq!(vector.map(f32::to_bits), [0.6f32, 0.8].map(f32::to_bits));
        let mut zero = [0.0; 3];
        normalize(&mut zero);
        assert_eq!(zero.map(f32::to_bits), [0; 3]);
    }
}
