//! Typed tensor contents: one repeated field per family of datatypes.

use afterglow_proto::inference::InferTensorContents;
use bytes::Bytes;

use crate::api::{Data, Datatype, Error, Result, Tensor};
use crate::wire::oip::shape::Shape;

/// A tensor from its typed contents; the field must be the datatype's own, and every other one empty.
pub(super) fn tensor(
    tensor: &str,
    datatype: Datatype,
    shape: Shape,
    contents: InferTensorContents,
) -> Result<Tensor> {
    let InferTensorContents {
        bool_contents,
        int_contents,
        int64_contents,
        uint_contents,
        uint64_contents,
        fp32_contents,
        fp64_contents,
        bytes_contents,
    } = contents;
    let field = field(tensor, datatype)?;
    let filled = [
        ("bool_contents", bool_contents.len()),
        ("int_contents", int_contents.len()),
        ("int64_contents", int64_contents.len()),
        ("uint_contents", uint_contents.len()),
        ("uint64_contents", uint64_contents.len()),
        ("fp32_contents", fp32_contents.len()),
        ("fp64_contents", fp64_contents.len()),
        ("bytes_contents", bytes_contents.len()),
    ];
    for (name, count) in filled {
        if name != field && count > 0 {
            return Err(Error::invalid(format!(
                "{tensor}: {name} is filled, but {} travels in {field}",
                datatype.name()
            )));
        }
        if name == field && count != shape.elements {
            return Err(Error::invalid(format!(
                "{tensor}: {count} elements of data, shape {:?} needs {}",
                shape.extents, shape.elements
            )));
        }
    }
    let narrow = |error: Option<usize>| match error {
        None => Ok(()),
        Some(index) => Err(Error::invalid(format!(
            "{tensor}: element {index} is not a value of {}",
            datatype.name()
        ))),
    };
    let data = match datatype {
        Datatype::Bool => Data::Fixed(bool_contents.into_iter().map(u8::from).collect()),
        Datatype::Int8 => {
            narrow(
                int_contents
                    .iter()
                    .position(|value| i8::try_from(*value).is_err()),
            )?;
            pack(&int_contents, |value| (*value as i8).to_le_bytes())
        }
        Datatype::Int16 => {
            narrow(
                int_contents
                    .iter()
                    .position(|value| i16::try_from(*value).is_err()),
            )?;
            pack(&int_contents, |value| (*value as i16).to_le_bytes())
        }
        Datatype::Int32 => pack(&int_contents, |value| value.to_le_bytes()),
        Datatype::Int64 => pack(&int64_contents, |value| value.to_le_bytes()),
        Datatype::Uint8 => {
            narrow(
                uint_contents
                    .iter()
                    .position(|value| u8::try_from(*value).is_err()),
            )?;
            pack(&uint_contents, |value| (*value as u8).to_le_bytes())
        }
        Datatype::Uint16 => {
            narrow(
                uint_contents
                    .iter()
                    .position(|value| u16::try_from(*value).is_err()),
            )?;
            pack(&uint_contents, |value| (*value as u16).to_le_bytes())
        }
        Datatype::Uint32 => pack(&uint_contents, |value| value.to_le_bytes()),
        Datatype::Uint64 => pack(&uint64_contents, |value| value.to_le_bytes()),
        Datatype::Fp32 => pack(&fp32_contents, |value| value.to_le_bytes()),
        Datatype::Fp64 => pack(&fp64_contents, |value| value.to_le_bytes()),
        Datatype::Bytes => Data::Strings(bytes_contents),
        Datatype::Fp16 | Datatype::Bf16 => return Err(half(tensor, datatype)),
    };
    Ok(Tensor {
        datatype,
        shape: shape.extents,
        data,
    })
}

fn field(tensor: &str, datatype: Datatype) -> Result<&'static str> {
    Ok(match datatype {
        Datatype::Bool => "bool_contents",
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => "int_contents",
        Datatype::Int64 => "int64_contents",
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => "uint_contents",
        Datatype::Uint64 => "uint64_contents",
        Datatype::Fp32 => "fp32_contents",
        Datatype::Fp64 => "fp64_contents",
        Datatype::Bytes => "bytes_contents",
        Datatype::Fp16 | Datatype::Bf16 => return Err(half(tensor, datatype)),
    })
}

fn half(tensor: &str, datatype: Datatype) -> Error {
    Error::invalid(format!(
        "{tensor}: {} has no typed contents; send raw_input_contents",
        datatype.name()
    ))
}

fn pack<T, const N: usize>(values: &[T], bytes: impl Fn(&T) -> [u8; N]) -> Data {
    let mut out = Vec::with_capacity(values.len() * N);
    for value in values {
        out.extend_from_slice(&bytes(value));
    }
    Data::Fixed(Bytes::from(out))
}
