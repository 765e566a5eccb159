//! Tensors into ONNX Runtime's values and back.

use bytemuck::allocation::pod_collect_to_vec;
use bytemuck::{Pod, PodCastError, cast_slice, try_cast_slice};
use bytes::Bytes;
use half::{bf16, f16};
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor as OrtTensor, TensorElementType, ValueType};

use ort_ep_sys::session::{string_elements, string_tensor};

use crate::api::{Data, Datatype, Error, Result, Tensor};

// The wire is little-endian; so is every machine with the cards this project is for.
#[cfg(not(target_endian = "little"))]
compile_error!("tensors would have to be byte-swapped on a big-endian machine");

/// Our name of an element type; `None` for what the protocol cannot carry (complex, 4-bit and 8-bit floats).
pub(super) fn datatype(element: TensorElementType) -> Option<Datatype> {
    Some(match element {
        TensorElementType::Bool => Datatype::Bool,
        TensorElementType::Uint8 => Datatype::Uint8,
        TensorElementType::Uint16 => Datatype::Uint16,
        TensorElementType::Uint32 => Datatype::Uint32,
        TensorElementType::Uint64 => Datatype::Uint64,
        TensorElementType::Int8 => Datatype::Int8,
        TensorElementType::Int16 => Datatype::Int16,
        TensorElementType::Int32 => Datatype::Int32,
        TensorElementType::Int64 => Datatype::Int64,
        TensorElementType::Float16 => Datatype::Fp16,
        TensorElementType::Float32 => Datatype::Fp32,
        TensorElementType::Float64 => Datatype::Fp64,
        TensorElementType::Bfloat16 => Datatype::Bf16,
        TensorElementType::String => Datatype::Bytes,
        _ => return None,
    })
}

/// One copy: the value owns aligned elements.
pub(super) fn to_value(tensor: &Tensor) -> Result<DynValue> {
    match (&tensor.data, tensor.datatype) {
        (Data::Strings(strings), Datatype::Bytes) => string_tensor(&tensor.shape, strings)
            .map(ort::value::Value::into_dyn)
            .map_err(|e| Error::internal(format!("BYTES cannot be handed to the model: {e}"))),
        (Data::Fixed(bytes), Datatype::Bool) => value(
            &tensor.shape,
            bytes.iter().map(|&byte| byte != 0).collect::<Vec<bool>>(),
        ),
        (Data::Fixed(bytes), Datatype::Uint8) => value(&tensor.shape, elements::<u8>(bytes)),
        (Data::Fixed(bytes), Datatype::Uint16) => value(&tensor.shape, elements::<u16>(bytes)),
        (Data::Fixed(bytes), Datatype::Uint32) => value(&tensor.shape, elements::<u32>(bytes)),
        (Data::Fixed(bytes), Datatype::Uint64) => value(&tensor.shape, elements::<u64>(bytes)),
        (Data::Fixed(bytes), Datatype::Int8) => value(&tensor.shape, elements::<i8>(bytes)),
        (Data::Fixed(bytes), Datatype::Int16) => value(&tensor.shape, elements::<i16>(bytes)),
        (Data::Fixed(bytes), Datatype::Int32) => value(&tensor.shape, elements::<i32>(bytes)),
        (Data::Fixed(bytes), Datatype::Int64) => value(&tensor.shape, elements::<i64>(bytes)),
        (Data::Fixed(bytes), Datatype::Fp16) => value(&tensor.shape, elements::<f16>(bytes)),
        (Data::Fixed(bytes), Datatype::Bf16) => value(&tensor.shape, elements::<bf16>(bytes)),
        (Data::Fixed(bytes), Datatype::Fp32) => value(&tensor.shape, elements::<f32>(bytes)),
        (Data::Fixed(bytes), Datatype::Fp64) => value(&tensor.shape, elements::<f64>(bytes)),
        (Data::Strings(_), datatype) => Err(Error::internal(format!(
            "strings in a tensor of {}",
            datatype.name()
        ))),
        (Data::Fixed(_), Datatype::Bytes) => Err(Error::internal("fixed-size elements in a tensor of BYTES")),
    }
}

/// Bytes as elements; one copy where they are not aligned and one where they are, for the value must own them.
fn elements<T: Pod>(bytes: &Bytes) -> Vec<T> {
    match try_cast_slice::<u8, T>(bytes) {
        Ok(aligned) => aligned.to_vec(),
        Err(PodCastError::TargetAlignmentGreaterAndInputNotAligned) => pod_collect_to_vec(bytes.as_ref()),
        Err(error) => unreachable!("length was checked against shape and datatype: {error}"),
    }
}

fn value<T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static>(
    shape: &[usize],
    data: Vec<T>,
) -> Result<DynValue> {
    OrtTensor::from_array((shape.to_vec(), data))
        .map(ort::value::Value::into_dyn)
        .map_err(|e| {
            Error::invalid(format!(
                "a tensor of shape {shape:?} cannot be handed to the model: {e}"
            ))
        })
}

/// One copy out of the runtime's memory.
pub(super) fn from_value(value: &DynValue, name: &str) -> Result<Tensor> {
    let failed = |e: ort::Error| Error::internal(format!("output `{name}` cannot be read: {e}"));
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(Error::internal(format!(
            "output `{name}` is not a tensor but {}",
            value.dtype()
        )));
    };
    let Some(datatype) = datatype(*ty) else {
        return Err(Error::internal(format!(
            "output `{name}` has elements of {ty}, which the protocol cannot carry"
        )));
    };
    let shape = shape.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
    let fixed = |bytes: &[u8]| Data::Fixed(Bytes::copy_from_slice(bytes));
    macro_rules! copy {
        ($t:ty) => {
            fixed(cast_slice(
                value.try_extract_tensor::<$t>().map_err(failed)?.1,
            ))
        };
    }
    let data = match datatype {
        Datatype::Bool => {
            let (_, flags) = value.try_extract_tensor::<bool>().map_err(failed)?;
            Data::Fixed(flags.iter().map(|&flag| u8::from(flag)).collect())
        }
        Datatype::Uint8 => copy!(u8),
        Datatype::Uint16 => copy!(u16),
        Datatype::Uint32 => copy!(u32),
        Datatype::Uint64 => copy!(u64),
        Datatype::Int8 => copy!(i8),
        Datatype::Int16 => copy!(i16),
        Datatype::Int32 => copy!(i32),
        Datatype::Int64 => copy!(i64),
        Datatype::Fp16 => copy!(f16),
        Datatype::Bf16 => copy!(bf16),
        Datatype::Fp32 => copy!(f32),
        Datatype::Fp64 => copy!(f64),
        Datatype::Bytes => {
            let strings = string_elements(value).map_err(failed)?;
            Data::Strings(strings.into_iter().map(Bytes::from).collect())
        }
    };
    Ok(Tensor {
        datatype,
        shape,
        data,
    })
}
