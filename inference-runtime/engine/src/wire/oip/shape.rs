//! Shapes as clients claim them: checked before any use.

use crate::api::{Data, Datatype, Error, Result, Tensor};

use super::strings;

/// No operator of ONNX is useful beyond a handful; this bounds what a shape itself may cost.
const MOST_DIMENSIONS: usize = 32;

/// A shape whose element count and byte count fit into memory's address range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Extents, outermost first.
    pub(crate) extents: Vec<usize>,
    /// Their product; 1 for a scalar.
    pub(crate) elements: usize,
}

/// Checks a claimed shape. `tensor` names it in errors (e.g. ``input `x` ``).
pub(crate) fn check(tensor: &str, datatype: Datatype, claimed: &[i64]) -> Result<Shape> {
    if claimed.len() > MOST_DIMENSIONS {
        let rank = claimed.len();
        return Err(Error::invalid(format!(
            "{tensor}: {rank} dimensions, at most {MOST_DIMENSIONS} are accepted"
        )));
    }
    let extents = claimed
        .iter()
        .map(|extent| usize::try_from(*extent))
        .collect::<Result<Vec<usize>, _>>()
        .map_err(|_| Error::invalid(format!("{tensor}: shape {claimed:?} has a negative extent")))?;
    // Zeros are left out of the product: [0, 2^62, 2^62] holds nothing, but its strides would overflow all the same.
    let size = datatype.size().unwrap_or(1);
    extents
        .iter()
        .filter(|extent| **extent > 0)
        .try_fold(size, |product, extent| product.checked_mul(*extent))
        .filter(|bytes| isize::try_from(*bytes).is_ok())
        .ok_or_else(|| Error::invalid(format!("{tensor}: shape {claimed:?} overflows")))?;
    let elements = extents.iter().product();
    Ok(Shape { extents, elements })
}

/// A tensor from its bytes on the wire: exactly as many as shape and datatype say.
pub(crate) fn tensor(tensor: &str, datatype: Datatype, shape: Shape, raw: bytes::Bytes) -> Result<Tensor> {
    let data = match datatype.size() {
        None => Data::Strings(strings::split(tensor, &shape, &raw)?),
        Some(size) => {
            let wanted = shape.elements * size;
            if raw.len() != wanted {
                return Err(Error::invalid(format!(
                    "{tensor}: {} bytes of data, shape {:?} of {} needs {wanted}",
                    raw.len(),
                    shape.extents,
                    datatype.name(),
                )));
            }
            Data::Fixed(if datatype == Datatype::Bool {
                truths(raw)
            } else {
                raw
            })
        }
    };
    Ok(Tensor {
        datatype,
        shape: shape.extents,
        data,
    })
}

/// BOOL is 0 or 1 on the wire; clients that send C's "anything but 0" get what they mean, and kernels see no third value.
fn truths(raw: bytes::Bytes) -> bytes::Bytes {
    if raw.iter().all(|byte| *byte <= 1) {
        return raw;
    }
    raw.iter().map(|byte| u8::from(*byte != 0)).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_scalar_has_one_element_and_an_empty_tensor_none() {
        assert_eq!(check("x", Datatype::Fp32, &[]).unwrap().elements, 1);
        assert_eq!(check("x", Datatype::Fp32, &[3, 0, 2]).unwrap().elements, 0);
    }

    #[test]
    fn negative_huge_and_overflowing_shapes_are_refused() {
        for claimed in [
            &[-1][..],
            &[i64::MAX, 2],
            &[1 << 31, 1 << 31, 4],
            &[0, 1 << 62, 1 << 62],
            &[1; 33],
        ] {
            assert!(check("x", Datatype::Fp32, claimed).is_err(), "{claimed:?}");
        }
        // Fits as elements, not as bytes.
        assert!(check("x", Datatype::Fp64, &[1 << 61]).is_err());
        assert!(check("x", Datatype::Uint8, &[1 << 61]).is_ok());
    }

    #[test]
    fn bytes_must_be_as_many_as_the_shape_needs() {
        for (length, right) in [(7, false), (8, true), (9, false), (0, false)] {
            let shape = check("x", Datatype::Fp32, &[2]).unwrap();
            let built = tensor("x", Datatype::Fp32, shape, Bytes::from(vec![0; length]));
            assert_eq!(built.is_ok(), right, "{length} bytes");
        }
    }

    #[test]
    fn any_nonzero_byte_is_true() {
        let shape = check("x", Datatype::Bool, &[3]).unwrap();
        let built = tensor("x", Datatype::Bool, shape, Bytes::from_static(&[0, 1, 255])).unwrap();
        assert_eq!(built.data, Data::Fixed(Bytes::from_static(&[0, 1, 1])));
    }
}
