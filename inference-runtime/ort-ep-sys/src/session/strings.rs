//! String tensors with any bytes in them: `ort` takes no NUL and gives nothing that is not UTF-8, the runtime minds
//! neither.

use std::ffi::c_char;
use std::ptr;

use ort::AsPointer;
use ort::memory::Allocator;

use ort::value::{DynTensor, DynValue, TensorElementType};

use super::check;

/// A string tensor of `shape` that holds a copy of `elements`, row-major.
///
/// # Panics
/// If there are more elements than the shape holds; fewer leave the rest empty.
pub fn string_tensor<T: AsRef<[u8]>>(shape: &[usize], elements: &[T]) -> Result<DynTensor, ort::Error> {
    assert!(
        elements.len() <= shape.iter().product(),
        "more elements than shape {shape:?} holds"
    );
    let mut tensor = DynTensor::new(&Allocator::default(), TensorElementType::String, shape)?;
    let api = ort::api();
    for (index, element) in elements.iter().enumerate() {
        let element = element.as_ref();
        let mut buffer: *mut c_char = ptr::null_mut();
        // SAFETY: the tensor is alive, ours alone, and holds strings; the index is below its element count.
        check(unsafe {
            (api.GetResizedStringTensorElementBuffer)(tensor.ptr_mut(), index, element.len(), &raw mut buffer)
        })?;
        // SAFETY: the runtime answered room for exactly `element.len()` bytes inside the tensor's own string, which
        // cannot overlap the caller's.
        unsafe { ptr::copy_nonoverlapping(element.as_ptr(), buffer.cast::<u8>(), element.len()) };
    }
    Ok(tensor)
}

/// The elements of a string tensor, row-major; an error if the value is anything else.
pub fn string_elements(value: &DynValue) -> Result<Vec<Vec<u8>>, ort::Error> {
    let count = value.shape().num_elements();
    let api = ort::api();
    let mut length = 0;
    // SAFETY: the value is alive as long as the borrow; the runtime itself refuses what holds no strings.
    check(unsafe { (api.GetStringTensorDataLength)(value.ptr(), &raw mut length) })?;
    let mut bytes = vec![0_u8; length];
    let mut offsets = vec![0_usize; count];
    // SAFETY: both buffers are as long as said.
    check(unsafe {
        (api.GetStringTensorContent)(
            value.ptr(),
            bytes.as_mut_ptr().cast(),
            length,
            offsets.as_mut_ptr(),
            count,
        )
    })?;
    let ends = offsets.iter().copied().skip(1).chain([length]);
    Ok(offsets
        .iter()
        .zip(ends)
        .map(|(start, end)| bytes[*start..end].to_vec())
        .collect())
}
