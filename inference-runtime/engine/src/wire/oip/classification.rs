//! The classification extension: instead of a tensor of scores, the largest of them with their indices.

use std::cmp::Ordering;

use bytes::Bytes;
use half::{bf16, f16};

use crate::api::{Data, Datatype, Error, InferResponse, RequestedOutput, Result, Tensor};

/// Replaces the outputs that were asked for as classes. `batched` = the first axis is the batch, and each row is ranked
/// by itself.
pub(crate) fn apply(response: &mut InferResponse, outputs: &[RequestedOutput], batched: bool) -> Result<()> {
    for wanted in outputs.iter().filter(|output| output.classification > 0) {
        for output in response
            .outputs
            .iter_mut()
            .filter(|output| output.name == wanted.name)
        {
            let label = format!("output `{}`", output.name);
            output.tensor = classes(&label, &output.tensor, wanted.classification, batched)?;
        }
    }
    Ok(())
}

/// Whether any output was asked for as classes.
pub(crate) fn wanted(outputs: &[RequestedOutput]) -> bool {
    outputs.iter().any(|output| output.classification > 0)
}

fn classes(label: &str, tensor: &Tensor, count: usize, batched: bool) -> Result<Tensor> {
    let scores = scores(label, tensor)?;
    let rows = match tensor.shape.first() {
        Some(rows) if batched => *rows,
        _ => 1,
    };
    let width = scores.len().checked_div(rows).unwrap_or(0);
    let count = count.min(width);
    let mut strings = Vec::with_capacity(rows * count);
    for row in 0..rows {
        let row = &scores[row * width..(row + 1) * width];
        let mut ranking: Vec<usize> = (0..width).collect();
        ranking.sort_by(|left, right| compare(row[*right].key, row[*left].key));
        for index in &ranking[..count] {
            strings.push(Bytes::from(format!("{}:{index}", row[*index].text())));
        }
    }
    let shape = if batched && !tensor.shape.is_empty() {
        vec![rows, count]
    } else {
        vec![count]
    };
    Ok(Tensor {
        datatype: Datatype::Bytes,
        shape,
        data: Data::Strings(strings),
    })
}

/// A score, for ordering and for printing: integers beyond 2^53 keep their digits.
#[derive(Clone, Copy)]
struct Score {
    key: f64,
    integer: Option<i128>,
}

impl Score {
    fn text(self) -> String {
        match self.integer {
            Some(integer) => integer.to_string(),
            None => format!("{:.6}", self.key),
        }
    }
}

/// NaN is below everything: a score that is not a number is no answer.
fn compare(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right)
        .unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
}

fn scores(label: &str, tensor: &Tensor) -> Result<Vec<Score>> {
    let Data::Fixed(bytes) = &tensor.data else {
        return Err(unrankable(label, tensor.datatype));
    };
    let float = |key: f64| Score { key, integer: None };
    let integer = |integer: i128| Score {
        key: integer as f64,
        integer: Some(integer),
    };
    Ok(match tensor.datatype {
        Datatype::Fp16 => each(bytes, |b| float(f16::from_le_bytes(b).into())),
        Datatype::Bf16 => each(bytes, |b| float(bf16::from_le_bytes(b).into())),
        Datatype::Fp32 => each(bytes, |b| float(f32::from_le_bytes(b).into())),
        Datatype::Fp64 => each(bytes, |b| float(f64::from_le_bytes(b))),
        Datatype::Uint8 => each(bytes, |b| integer(u8::from_le_bytes(b).into())),
        Datatype::Uint16 => each(bytes, |b| integer(u16::from_le_bytes(b).into())),
        Datatype::Uint32 => each(bytes, |b| integer(u32::from_le_bytes(b).into())),
        Datatype::Uint64 => each(bytes, |b| integer(u64::from_le_bytes(b).into())),
        Datatype::Int8 => each(bytes, |b| integer(i8::from_le_bytes(b).into())),
        Datatype::Int16 => each(bytes, |b| integer(i16::from_le_bytes(b).into())),
        Datatype::Int32 => each(bytes, |b| integer(i32::from_le_bytes(b).into())),
        Datatype::Int64 => each(bytes, |b| integer(i64::from_le_bytes(b).into())),
        Datatype::Bool | Datatype::Bytes => return Err(unrankable(label, tensor.datatype)),
    })
}

fn each<const N: usize>(bytes: &[u8], score: impl Fn([u8; N]) -> Score) -> Vec<Score> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|element| score(*element))
        .collect()
}

fn unrankable(label: &str, datatype: Datatype) -> Error {
    Error::invalid(format!(
        "{label}: classification needs numbers, the model answers {}",
        datatype.name()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor {
            datatype: Datatype::Fp32,
            shape: shape.to_vec(),
            data: Data::Fixed(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        }
    }

    fn ranked(tensor: &Tensor, count: usize, batched: bool) -> (Vec<usize>, Vec<String>) {
        let tensor = classes("output `y`", tensor, count, batched).unwrap();
        let Data::Strings(strings) = tensor.data else {
            panic!("strings")
        };
        (
            tensor.shape,
            strings
                .iter()
                .map(|text| String::from_utf8_lossy(text).into_owned())
                .collect(),
        )
    }

    #[test]
    fn each_row_of_a_batch_is_ranked_by_itself() {
        let scores = floats(&[2, 3], &[0.1, 0.7, 0.2, 3.0, 1.0, 2.0]);
        let (shape, classes) = ranked(&scores, 2, true);
        assert_eq!(shape, [2, 2]);
        assert_eq!(classes, ["0.700000:1", "0.200000:2", "3.000000:0", "2.000000:2"]);
        let (shape, classes) = ranked(&scores, 1, false);
        assert_eq!(shape, [1]);
        assert_eq!(classes, ["3.000000:3"]);
    }

    #[test]
    fn the_count_is_cut_and_ties_keep_their_order_and_nan_comes_last() {
        let (shape, classes) = ranked(&floats(&[4], &[f32::NAN, 1.0, 1.0, 2.0]), 99, false);
        assert_eq!(shape, [4]);
        assert_eq!(classes[..3], ["2.000000:3", "1.000000:1", "1.000000:2"]);
        assert!(classes[3].starts_with("NaN:0"));
    }

    #[test]
    fn integers_keep_their_digits() {
        let big = Tensor {
            datatype: Datatype::Int64,
            shape: vec![1],
            data: Data::Fixed(Bytes::copy_from_slice(&i64::MAX.to_le_bytes())),
        };
        assert_eq!(ranked(&big, 1, false).1, ["9223372036854775807:0"]);
    }

    #[test]
    fn empty_tensors_have_no_classes_and_strings_cannot_be_ranked() {
        assert_eq!(ranked(&floats(&[2, 0], &[]), 3, true), (vec![2, 0], vec![]));
        assert_eq!(ranked(&floats(&[0, 2], &[]), 3, true), (vec![0, 0], vec![]));
        let strings = Tensor {
            datatype: Datatype::Bytes,
            shape: vec![0],
            data: Data::Strings(vec![]),
        };
        assert!(classes("output `y`", &strings, 1, false).is_err());
    }
}
