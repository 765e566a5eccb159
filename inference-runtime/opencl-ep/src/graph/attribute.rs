//! A node's attributes, read from the runtime.

use std::ffi::{CStr, c_void};
use std::ptr;

use opencl_kernels::ir::{Attribute, Attributes};
use ort_ep_sys::{Host, HostError, OrtOpAttr, OrtOpAttrType};

use super::tensor::TensorView;
use super::view::NodeView;

/// Why a node's attributes could not be read.
pub(super) enum Refusal {
    /// The node has an attribute that has no place in our graphs.
    Unsupported(String),
    /// The runtime failed.
    Host(HostError),
}

impl From<HostError> for Refusal {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

/// All attributes of a node.
pub(super) fn attributes(host: Host, node: NodeView<'_>) -> Result<Attributes, Refusal> {
    let mut read = Attributes::default();
    for attribute in node.attributes()? {
        // SAFETY: attributes live as long as their node, for this call.
        let (name, value) = unsafe { attribute_of(host, attribute) }?;
        read.set(name, value);
    }
    Ok(read)
}

/// # Safety
/// `attribute` is alive.
unsafe fn attribute_of(host: Host, attribute: *const OrtOpAttr) -> Result<(String, Attribute), Refusal> {
    let mut name = ptr::null();
    // SAFETY: the caller's promise.
    host.check(unsafe { (host.api.OpAttr_GetName)(attribute, &raw mut name) })?;
    // SAFETY: the name lives as long as the attribute.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    let unsupported = |kind: &str| Refusal::Unsupported(format!("the attribute '{name}' is {kind}"));

    let mut kind = 0_i32;
    // SAFETY: the caller's promise. Read as a number: a newer runtime's kinds may have no name here. An error says
    // that the kind has no number at all.
    if host
        .check(unsafe { (host.api.OpAttr_GetType)(attribute, (&raw mut kind).cast()) })
        .is_err()
    {
        return Err(unsupported("of a kind the runtime does not pass on"));
    }
    // SAFETY: the caller's promise, and each read asks for the kind that the attribute has.
    let value = unsafe {
        match kind {
            1 => Attribute::Int(i64::from_ne_bytes(one(
                host,
                attribute,
                OrtOpAttrType::ORT_OP_ATTR_INT,
            )?)),
            2 => {
                let bytes = many(host, attribute, OrtOpAttrType::ORT_OP_ATTR_INTS)?;
                Attribute::Ints(
                    bytes
                        .as_chunks()
                        .0
                        .iter()
                        .map(|c| i64::from_ne_bytes(*c))
                        .collect(),
                )
            }
            3 => Attribute::Float(f32::from_ne_bytes(one(
                host,
                attribute,
                OrtOpAttrType::ORT_OP_ATTR_FLOAT,
            )?)),
            4 => {
                let bytes = many(host, attribute, OrtOpAttrType::ORT_OP_ATTR_FLOATS)?;
                Attribute::Floats(
                    bytes
                        .as_chunks()
                        .0
                        .iter()
                        .map(|c| f32::from_ne_bytes(*c))
                        .collect(),
                )
            }
            5 => Attribute::String(string(&many(host, attribute, OrtOpAttrType::ORT_OP_ATTR_STRING)?)),
            6 => {
                let bytes = many(host, attribute, OrtOpAttrType::ORT_OP_ATTR_STRINGS)?;
                Attribute::Strings(bytes.split_inclusive(|&b| b == 0).map(string).collect())
            }
            7 => return Err(unsupported("a graph")),
            8 => match tensor(host, attribute)? {
                Some(tensor) => Attribute::Tensor(tensor),
                None => return Err(unsupported("a tensor of an unsupported type")),
            },
            _ => return Err(unsupported("of an unsupported kind")),
        }
    };
    Ok((name, value))
}

/// Text, with or without the NUL that ends it.
fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}

/// A value of known size.
///
/// # Safety
/// `attribute` is alive and of this kind.
unsafe fn one<const N: usize>(
    host: Host,
    attribute: *const OrtOpAttr,
    kind: OrtOpAttrType,
) -> Result<[u8; N], HostError> {
    let mut value = [0_u8; N];
    let mut written = 0;
    let data = value.as_mut_ptr().cast::<c_void>();
    // SAFETY: the runtime writes at most N bytes.
    host.check(unsafe { (host.api.ReadOpAttr)(attribute, kind, data, N, &raw mut written) })?;
    Ok(value)
}

/// A value of any size: asked for twice, since the first call only tells the size (as an error).
///
/// # Safety
/// `attribute` is alive and of this kind.
unsafe fn many(host: Host, attribute: *const OrtOpAttr, kind: OrtOpAttrType) -> Result<Vec<u8>, HostError> {
    let mut length = 0;
    // SAFETY: nothing is written into no bytes.
    let asked =
        host.check(unsafe { (host.api.ReadOpAttr)(attribute, kind, ptr::null_mut(), 0, &raw mut length) });
    if length == 0 {
        return asked.map(|()| Vec::new());
    }
    let mut value = vec![0_u8; length];
    let mut written = 0;
    // SAFETY: the runtime writes at most `length` bytes.
    host.check(unsafe {
        (host.api.ReadOpAttr)(
            attribute,
            kind,
            value.as_mut_ptr().cast(),
            length,
            &raw mut written,
        )
    })?;
    value.truncate(written);
    Ok(value)
}

/// A tensor attribute, copied; `None` if its elements are of an unsupported type.
///
/// # Safety
/// `attribute` is alive and a tensor.
unsafe fn tensor(
    host: Host,
    attribute: *const OrtOpAttr,
) -> Result<Option<opencl_kernels::tensor::HostTensor>, HostError> {
    let mut value = ptr::null_mut();
    // SAFETY: the caller's promise; the value is ours.
    host.check(unsafe { (host.api.OpAttr_GetTensorAttributeAsOrtValue)(attribute, &raw mut value) })?;
    // SAFETY: alive until released below.
    let copied = match unsafe { TensorView::new(host, value) } {
        Some(view) => view.copy(),
        None => Ok(None),
    };
    // SAFETY: released once; releasing null is allowed.
    unsafe { (host.api.ReleaseValue)(value) };
    copied
}
