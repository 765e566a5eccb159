//! Copies between a provider's memory and the host's.

use crate::{OrtMemoryDevice, OrtStatusPtr, OrtSyncStream, OrtValue};

/// Copies tensors between devices; only named by [`OrtEpFactory`](crate::OrtEpFactory)'s `CreateDataTransfer`, which
/// must exist even where it has nothing to give (a null slot there is a segmentation fault in the runtime).
#[repr(C)]
#[derive(Debug)]
pub struct OrtDataTransferImpl {
    /// [`API_VERSION`](crate::API_VERSION).
    pub ort_version_supported: u32,
    /// Ends this object.
    pub Release: Option<unsafe extern "system" fn(this: *mut OrtDataTransferImpl)>,
    /// Whether this object copies between these two kinds of memory.
    pub CanCopy: Option<
        unsafe extern "system" fn(
            this: *const OrtDataTransferImpl,
            source: *const OrtMemoryDevice,
            target: *const OrtMemoryDevice,
        ) -> bool,
    >,
    /// Copies `count` tensors.
    pub CopyTensors: Option<
        unsafe extern "system" fn(
            this: *mut OrtDataTransferImpl,
            sources: *mut *const OrtValue,
            targets: *mut *mut OrtValue,
            streams: *mut *mut OrtSyncStream,
            count: usize,
        ) -> OrtStatusPtr,
    >,
}

const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<OrtDataTransferImpl>() == 32);
    assert!(offset_of!(OrtDataTransferImpl, CopyTensors) == 24);
};
