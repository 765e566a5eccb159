//! What a provider says of its devices.

use std::ffi::{CStr, c_char};
use std::ptr;

use ort::AsPointer;

/// The metadata that a provider gave to its device (PCI address, driver, version, …), in the provider's order.
pub fn device_metadata(device: &ort::device::Device<'_>) -> Vec<(String, String)> {
    let api = ort::api();
    // SAFETY: the device is alive as long as the borrow; the answer is owned by it.
    let pairs = unsafe { (api.EpDevice_EpMetadata)(device.ptr()) };
    if pairs.is_null() {
        return Vec::new();
    }
    let mut keys: *const *const c_char = ptr::null();
    let mut values: *const *const c_char = ptr::null();
    let mut count = 0;
    // SAFETY: `pairs` is alive; the three out-pointers are valid for the call.
    unsafe { (api.GetKeyValuePairs)(pairs, &raw mut keys, &raw mut values, &raw mut count) };
    // SAFETY: `count` valid NUL-terminated strings in each array, owned by `pairs`.
    let text = |list: *const *const c_char, i| {
        unsafe { CStr::from_ptr(*list.add(i)) }
            .to_string_lossy()
            .into_owned()
    };
    (0..count).map(|i| (text(keys, i), text(values, i))).collect()
}
