//! Types and tensors as the runtime has them.

use std::marker::PhantomData;
use std::{ptr, slice};

use opencl_kernels::tensor::{DType, HostTensor, TensorType};
use ort_ep_sys::{Host, HostError, OrtTensorTypeAndShapeInfo, OrtTypeInfo, OrtValue};

/// What a graph declares a value to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Type {
    /// A tensor of a type we know. The inner `None` is a dynamic extent, the outer `None` an unknown rank.
    Tensor(DType, Option<Vec<Option<usize>>>),
    /// Anything else, in words.
    Other(String),
}

/// `ONNX_TYPE_TENSOR`.
const TENSOR: i32 = 1;

impl Type {
    /// # Safety
    /// `info` is null or alive.
    pub(super) unsafe fn of_info(host: Host, info: *const OrtTypeInfo) -> Result<Self, HostError> {
        if info.is_null() {
            return Ok(Self::Other("a value of unknown type".into()));
        }
        let mut kind = 0_i32;
        // SAFETY: `info` is alive. The kind is read as a number: a newer runtime's may have no name here.
        host.check(unsafe { (host.api.GetOnnxTypeFromTypeInfo)(info, (&raw mut kind).cast()) })?;
        if kind != TENSOR {
            let name = match kind {
                2 => "a sequence",
                3 => "a map",
                5 => "a sparse tensor",
                6 => "an optional",
                _ => "no tensor",
            };
            return Ok(Self::Other(name.into()));
        }
        let mut tensor = ptr::null();
        // SAFETY: `info` is alive and is a tensor's; the result is borrowed from it.
        host.check(unsafe { (host.api.CastTypeInfoToTensorInfo)(info, &raw mut tensor) })?;
        if tensor.is_null() {
            return Ok(Self::Other("a value of unknown type".into()));
        }
        // SAFETY: borrowed from `info`, which is alive.
        let (element, has_shape) = unsafe {
            let mut element = 0_i32;
            host.check((host.api.GetTensorElementType)(tensor, (&raw mut element).cast()))?;
            (element, (host.api.TensorTypeAndShape_HasShape)(tensor))
        };
        let Some(dtype) = dtype(element) else {
            return Ok(Self::Other(format!("a tensor of {}", element_name(element))));
        };
        if !has_shape {
            return Ok(Self::Tensor(dtype, None));
        }
        // SAFETY: as above.
        let dims = unsafe { dimensions(host, tensor) }?;
        let dims = dims.into_iter().map(|d| usize::try_from(d).ok()).collect();
        Ok(Self::Tensor(dtype, Some(dims)))
    }
}

/// # Safety
/// `info` is alive.
unsafe fn dimensions(host: Host, info: *const OrtTensorTypeAndShapeInfo) -> Result<Vec<i64>, HostError> {
    let mut rank = 0;
    // SAFETY: the caller's promise.
    host.check(unsafe { (host.api.GetDimensionsCount)(info, &raw mut rank) })?;
    let mut dims = vec![0_i64; rank];
    // SAFETY: the caller's promise; the array has the length that the runtime has just named.
    host.check(unsafe { (host.api.GetDimensions)(info, dims.as_mut_ptr(), rank) })?;
    Ok(dims)
}

/// Our name for an `ONNXTensorElementDataType`, if we can at least move such elements.
fn dtype(element: i32) -> Option<DType> {
    DType::from_onnx(i64::from(element))
}

fn element_name(element: i32) -> String {
    match element {
        8 => "strings".into(),
        14 => "complex64".into(),
        15 => "complex128".into(),
        17..=20 | 26 => "float8".into(),
        21 | 22 => "4-bit integers".into(),
        23 => "float4".into(),
        24 | 25 => "2-bit integers".into(),
        _ => format!("element type {element}"),
    }
}

/// A tensor's elements in host memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TensorView<'a> {
    host: Host,
    value: *const OrtValue,
    call: PhantomData<&'a OrtValue>,
}

impl<'a> TensorView<'a> {
    /// A view of a value; `None` for null.
    ///
    /// # Safety
    /// `value` is null or alive for `'a`, and nobody writes to it meanwhile.
    pub(crate) unsafe fn new(host: Host, value: *const OrtValue) -> Option<Self> {
        (!value.is_null()).then_some(Self {
            host,
            value,
            call: PhantomData,
        })
    }

    /// Element type and shape; `None` if the elements are of a type we cannot even move.
    pub(crate) fn ty(self) -> Result<Option<TensorType>, HostError> {
        let host = self.host;
        let mut info = ptr::null_mut();
        // SAFETY: the value is alive for 'a; an error is all that a value without tensor gives.
        host.check(unsafe { (host.api.GetTensorTypeAndShape)(self.value, &raw mut info) })?;
        // SAFETY: `info` is ours until released below.
        let read = unsafe {
            let mut element = 0_i32;
            host.check((host.api.GetTensorElementType)(info, (&raw mut element).cast()))
                .and_then(|()| Ok((element, dimensions(host, info)?)))
        };
        // SAFETY: released once.
        unsafe { (host.api.ReleaseTensorTypeAndShapeInfo)(info) };
        let (element, dims) = read?;
        let shape: Option<Vec<usize>> = dims.into_iter().map(|d| usize::try_from(d).ok()).collect();
        Ok(dtype(element)
            .zip(shape)
            .map(|(dtype, shape)| TensorType { dtype, shape }))
    }

    /// The elements. `ty` is the tensor's own type, as [`ty`](Self::ty) gave it.
    pub(crate) fn bytes(self, ty: &TensorType) -> Result<&'a [u8], HostError> {
        let length = ty.bytes();
        if length == 0 {
            // The runtime may give null for nothing, and a slice may not be null.
            return Ok(&[]);
        }
        let mut data = ptr::null();
        // SAFETY: the value is alive for 'a.
        self.host
            .check(unsafe { (self.host.api.GetTensorData)(self.value, &raw mut data) })?;
        if data.is_null() {
            return Err(HostError(format!("a tensor of type {ty} has no data")));
        }
        // SAFETY: a tensor is dense, so it has as many bytes as its type says; it lives for 'a, unwritten.
        Ok(unsafe { slice::from_raw_parts(data.cast(), length) })
    }

    /// A copy in our own memory; `None` as in [`ty`](Self::ty).
    pub(crate) fn copy(self) -> Result<Option<HostTensor>, HostError> {
        let Some(ty) = self.ty()? else { return Ok(None) };
        let bytes = self.bytes(&ty)?;
        Ok(Some(HostTensor::new(ty, bytes)))
    }
}
