//! Requests into one batch along the first axis, and its outputs back to the requests.

use bytes::{Bytes, BytesMut};

use crate::api::{Data, Error, NamedTensor, Result, Tensor};

/// Puts the requests' inputs (each in the model's order, with equal axes but the first) below each other.
pub(crate) fn gather(requests: &[&[NamedTensor]]) -> Vec<NamedTensor> {
    let [first, rest @ ..] = requests else {
        return Vec::new();
    };
    if rest.is_empty() {
        return first.to_vec();
    }
    (0..first.len())
        .map(|i| NamedTensor {
            name: first[i].name.clone(),
            tensor: stack(requests.iter().map(|inputs| &inputs[i].tensor)),
        })
        .collect()
}

fn stack<'a>(parts: impl Iterator<Item = &'a Tensor> + Clone) -> Tensor {
    let rows = parts.clone().map(|part| part.shape[0]).sum();
    let mut all = parts.clone();
    let first = all.next().expect("a batch has a first request");
    let mut shape = first.shape.clone();
    shape[0] = rows;
    let data = match first.data {
        Data::Fixed(_) => {
            let slices = parts.filter_map(|part| match &part.data {
                Data::Fixed(bytes) => Some(bytes),
                Data::Strings(_) => None,
            });
            let mut buffer = BytesMut::with_capacity(slices.clone().map(Bytes::len).sum());
            slices.for_each(|bytes| buffer.extend_from_slice(bytes));
            Data::Fixed(buffer.freeze())
        }
        Data::Strings(_) => Data::Strings(
            parts
                .filter_map(|part| match &part.data {
                    Data::Strings(strings) => Some(strings),
                    Data::Fixed(_) => None,
                })
                .flatten()
                .cloned()
                .collect(),
        ),
    };
    Tensor {
        datatype: first.datatype,
        shape,
        data,
    }
}

/// Cuts the outputs of a batch into the parts of its requests, `rows` of each. An output whose first axis is not the
/// batch cannot be cut: the model does not batch, whatever its shapes say.
pub(crate) fn scatter(outputs: Vec<NamedTensor>, rows: &[usize]) -> Result<Vec<Vec<NamedTensor>>> {
    if rows.len() == 1 {
        return Ok(vec![outputs]);
    }
    let total: usize = rows.iter().sum();
    let mut parts: Vec<Vec<NamedTensor>> = vec![Vec::with_capacity(outputs.len()); rows.len()];
    for output in outputs {
        if output.tensor.shape.first() != Some(&total) {
            return Err(Error::internal(format!(
                "output `{}` has the shape {:?} for a batch of {total} rows",
                output.name, output.tensor.shape
            )));
        }
        let mut start = 0;
        for (part, &count) in parts.iter_mut().zip(rows) {
            part.push(NamedTensor {
                name: output.name.clone(),
                tensor: cut(&output.tensor, total, start, count),
            });
            start += count;
        }
    }
    Ok(parts)
}

fn cut(tensor: &Tensor, total: usize, start: usize, count: usize) -> Tensor {
    let mut shape = tensor.shape.clone();
    shape[0] = count;
    let data = match &tensor.data {
        Data::Fixed(bytes) => {
            let row = bytes.len() / total;
            Data::Fixed(bytes.slice(start * row..(start + count) * row))
        }
        Data::Strings(strings) => {
            let row = strings.len() / total;
            Data::Strings(strings[start * row..(start + count) * row].to_vec())
        }
    };
    Tensor {
        datatype: tensor.datatype,
        shape,
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Datatype;

    fn bytes(shape: &[usize], data: &[u8]) -> Vec<NamedTensor> {
        vec![NamedTensor {
            name: "x".into(),
            tensor: Tensor {
                datatype: Datatype::Uint8,
                shape: shape.to_vec(),
                data: Data::Fixed(Bytes::copy_from_slice(data)),
            },
        }]
    }

    fn strings(texts: &[&'static str]) -> Vec<NamedTensor> {
        vec![NamedTensor {
            name: "s".into(),
            tensor: Tensor {
                datatype: Datatype::Bytes,
                shape: vec![texts.len()],
                data: Data::Strings(texts.iter().map(|&t| Bytes::from(t)).collect()),
            },
        }]
    }

    #[test]
    fn what_is_gathered_comes_back_by_rows() {
        let (a, b, c) = (
            bytes(&[1, 2], &[1, 2]),
            bytes(&[3, 2], &[3, 4, 5, 6, 7, 8]),
            bytes(&[2, 2], &[9, 10, 11, 12]),
        );
        let batch = gather(&[&a, &b, &c]);
        assert_eq!(batch[0].tensor.shape, [6, 2]);
        assert_eq!(scatter(batch, &[1, 3, 2]).unwrap(), [a, b, c]);
        let (a, b) = (strings(&["one"]), strings(&["two", "three"]));
        let batch = gather(&[&a, &b]);
        assert_eq!(batch[0].tensor.shape, [3]);
        assert_eq!(scatter(batch, &[1, 2]).unwrap(), [a, b]);
    }

    #[test]
    fn rows_without_elements_are_rows() {
        let (a, b) = (bytes(&[1, 0], &[]), bytes(&[2, 0], &[]));
        let batch = gather(&[&a, &b]);
        assert_eq!(batch[0].tensor.shape, [3, 0]);
        assert_eq!(scatter(batch, &[1, 2]).unwrap(), [a, b]);
    }

    #[test]
    fn an_output_that_is_no_batch_is_not_cut() {
        assert!(
            scatter(bytes(&[1, 2], &[1, 2]), &[1, 1])
                .unwrap_err()
                .message
                .contains("[1, 2]")
        );
        assert!(scatter(bytes(&[], &[1]), &[1, 1]).is_err());
        assert_eq!(
            scatter(bytes(&[5], &[0; 5]), &[2]).unwrap()[0][0].tensor.shape,
            [5],
            "alone it may be anything"
        );
    }
}
