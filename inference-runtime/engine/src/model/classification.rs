//! The classification extension: instead of an output, its largest values with their indices.

use std::cmp::Ordering;

use bytes::Bytes;
use half::{bf16, f16};

use crate::api::{Data, Datatype, Error, Result, Tensor};

/// The `n` largest values of `tensor` as `"value:index"` strings, shape `[batch, n]`, or `[n]` where the model does
/// not batch; `n` is cut to the number of classes. Values are written like Triton's, with six decimals for floats.
pub(crate) fn classify(name: &str, tensor: &Tensor, n: usize, batched: bool) -> Result<Tensor> {
    let values = values(tensor).ok_or_else(|| {
        Error::invalid(format!(
            "output `{name}` is {}: classification needs numbers",
            tensor.datatype.name()
        ))
    })?;
    let rows = if batched {
        tensor.shape.first().copied().unwrap_or(1)
    } else {
        1
    };
    let classes = values.len().checked_div(rows).unwrap_or(0);
    let n = n.min(classes);
    let float = matches!(
        tensor.datatype,
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64
    );
    let mut strings = Vec::with_capacity(rows * n);
    for row in 0..rows {
        let row = &values[row * classes..(row + 1) * classes];
        let mut order: Vec<usize> = (0..classes).collect();
        // NaN is below every number; equal values stay in the model's order.
        order.sort_by(|&a, &b| match (row[a].is_nan(), row[b].is_nan()) {
            (false, false) => row[b].partial_cmp(&row[a]).unwrap_or(Ordering::Equal),
            (a, b) => a.cmp(&b),
        });
        strings.extend(order.iter().take(n).map(|&class| {
            let value = row[class];
            Bytes::from(if float {
                format!("{value:.6}:{class}")
            } else {
                format!("{value}:{class}")
            })
        }));
    }
    Ok(Tensor {
        datatype: Datatype::Bytes,
        shape: if batched { vec![rows, n] } else { vec![n] },
        data: Data::Strings(strings),
    })
}

fn values(tensor: &Tensor) -> Option<Vec<f64>> {
    let Data::Fixed(bytes) = &tensor.data else {
        return None;
    };
    macro_rules! read {
        ($t:ty, $convert:expr) => {
            bytes
                .chunks_exact(size_of::<$t>())
                .map(|c| $convert(<$t>::from_le_bytes(c.try_into().unwrap_or_default())))
                .collect()
        };
    }
    Some(match tensor.datatype {
        Datatype::Fp32 => read!(f32, f64::from),
        Datatype::Fp64 => read!(f64, f64::from),
        Datatype::Fp16 => read!(f16, f64::from),
        Datatype::Bf16 => read!(bf16, f64::from),
        Datatype::Uint8 => read!(u8, f64::from),
        Datatype::Uint16 => read!(u16, f64::from),
        Datatype::Uint32 => read!(u32, f64::from),
        Datatype::Uint64 => read!(u64, |v| v as f64),
        Datatype::Int8 => read!(i8, f64::from),
        Datatype::Int16 => read!(i16, f64::from),
        Datatype::Int32 => read!(i32, f64::from),
        Datatype::Int64 => read!(i64, |v| v as f64),
        Datatype::Bool | Datatype::Bytes => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor {
            datatype: Datatype::Fp32,
            shape: shape.to_vec(),
            data: Data::Fixed(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        }
    }

    fn texts(tensor: &Tensor) -> Vec<String> {
        let Data::Strings(strings) = &tensor.data else {
            panic!("no strings")
        };
        strings
            .iter()
            .map(|s| String::from_utf8(s.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn the_largest_come_first_row_by_row() {
        let scores = floats(&[2, 3], &[0.1, 0.7, 0.2, 3.0, f32::NAN, 3.0]);
        let top = classify("y", &scores, 2, true).unwrap();
        assert_eq!(top.shape, [2, 2]);
        assert_eq!(
            texts(&top),
            ["0.700000:1", "0.200000:2", "3.000000:0", "3.000000:2"]
        );
    }

    #[test]
    fn n_is_cut_to_the_classes_and_integers_stay_integers() {
        let counts = Tensor {
            datatype: Datatype::Int32,
            shape: vec![2],
            data: Data::Fixed([5i32, -7].iter().flat_map(|v| v.to_le_bytes()).collect()),
        };
        let top = classify("y", &counts, 9, false).unwrap();
        assert_eq!(
            (top.shape.as_slice(), texts(&top)),
            (&[2][..], vec!["5:0".to_owned(), "-7:1".to_owned()])
        );
        assert!(classify("y", &floats(&[0, 3], &[]), 2, true).unwrap().shape == [0, 0]);
    }

    #[test]
    fn strings_have_no_classes() {
        let tensor = Tensor {
            datatype: Datatype::Bytes,
            shape: vec![1],
            data: Data::Strings(vec!["a".into()]),
        };
        assert!(
            classify("y", &tensor, 1, true)
                .unwrap_err()
                .message
                .contains("`y`")
        );
    }
}
