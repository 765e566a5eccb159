//! The data transfer that we do not have.
//!
//! Tensors at our borders are host memory, so there is nothing to transfer. The slot must be filled all the same: the
//! runtime calls it at registration and again for each session, without asking whether it is there.

use ort_ep_sys::{OrtDataTransferImpl, OrtEpFactory, OrtStatusPtr};

/// Gives null, which the runtime takes for "none needed".
pub(crate) unsafe extern "system" fn create(
    _this: *mut OrtEpFactory,
    transfer: *mut *mut OrtDataTransferImpl,
) -> OrtStatusPtr {
    if !transfer.is_null() {
        // SAFETY: the runtime passes a place for the pointer.
        unsafe { *transfer = std::ptr::null_mut() };
    }
    OrtStatusPtr::default()
}
