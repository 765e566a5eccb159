//! The factory: one per registered library.

use std::ffi::c_char;

use crate::{
    OrtDataTransferImpl, OrtEp, OrtEpDevice, OrtHardwareDevice, OrtKeyValuePairs, OrtLogger,
    OrtSessionOptions, OrtStatusPtr, Unfilled,
};

/// What a library gives for each provider it holds. Own fields go behind it (see [`OrtEp`]).
#[repr(C)]
#[derive(Debug)]
pub struct OrtEpFactory {
    /// [`API_VERSION`](crate::API_VERSION).
    pub ort_version_supported: u32,
    /// The provider's name.
    pub GetName: Option<unsafe extern "system" fn(this: *const OrtEpFactory) -> *const c_char>,
    /// Who makes it.
    pub GetVendor: Option<unsafe extern "system" fn(this: *const OrtEpFactory) -> *const c_char>,
    /// Pairs the runtime's hardware devices with the provider; the runtime owns what is written to `ep_devices`.
    pub GetSupportedDevices: Option<
        unsafe extern "system" fn(
            this: *mut OrtEpFactory,
            devices: *const *const OrtHardwareDevice,
            count: usize,
            ep_devices: *mut *mut OrtEpDevice,
            capacity: usize,
            written: *mut usize,
        ) -> OrtStatusPtr,
    >,
    /// A provider for one session on the chosen devices.
    pub CreateEp: Option<
        unsafe extern "system" fn(
            this: *mut OrtEpFactory,
            devices: *const *const OrtHardwareDevice,
            metadata: *const *const OrtKeyValuePairs,
            count: usize,
            session_options: *const OrtSessionOptions,
            logger: *const OrtLogger,
            ep: *mut *mut OrtEp,
        ) -> OrtStatusPtr,
    >,
    /// Ends a session's provider; may come after `ReleaseEpFactory`.
    pub ReleaseEp: Option<unsafe extern "system" fn(this: *mut OrtEpFactory, ep: *mut OrtEp)>,
    /// The vendor's PCI id; 0 for none.
    pub GetVendorId: Option<unsafe extern "system" fn(this: *const OrtEpFactory) -> u32>,
    /// The provider's own version, as a semantic version.
    pub GetVersion: Option<unsafe extern "system" fn(this: *const OrtEpFactory) -> *const c_char>,
    /// Unfilled: no compiled models.
    pub ValidateCompiledModelCompatibilityInfo: Unfilled,
    /// Unfilled: no device memory at the borders.
    pub CreateAllocator: Unfilled,
    /// Unfilled: no device memory at the borders.
    pub ReleaseAllocator: Unfilled,
    /// Must be filled, even if it gives null: the runtime calls it unchecked at registration.
    pub CreateDataTransfer: Option<
        unsafe extern "system" fn(
            this: *mut OrtEpFactory,
            transfer: *mut *mut OrtDataTransferImpl,
        ) -> OrtStatusPtr,
    >,
    /// Whether sessions should make streams.
    pub IsStreamAware: Option<unsafe extern "system" fn(this: *const OrtEpFactory) -> bool>,
    /// Unfilled: no streams.
    pub CreateSyncStreamForDevice: Unfilled,
    /// Unfilled: incompatible devices are simply not listed.
    pub GetHardwareDeviceIncompatibilityDetails: Unfilled,
    /// Unfilled: no foreign memory.
    pub CreateExternalResourceImporterForDevice: Unfilled,
    /// Unfilled: no operators of our own.
    pub GetNumCustomOpDomains: Unfilled,
    /// Unfilled: no operators of our own.
    pub GetCustomOpDomains: Unfilled,
    /// Since 1.25: `InitGraphicsInterop`, `DeinitGraphicsInterop`, `SelectBestModelCandidate`.
    pub since_25: [Unfilled; 3],
}

impl OrtEpFactory {
    /// No slot filled.
    pub const fn empty() -> Self {
        Self {
            ort_version_supported: crate::API_VERSION,
            GetName: None,
            GetVendor: None,
            GetSupportedDevices: None,
            CreateEp: None,
            ReleaseEp: None,
            GetVendorId: None,
            GetVersion: None,
            ValidateCompiledModelCompatibilityInfo: None,
            CreateAllocator: None,
            ReleaseAllocator: None,
            CreateDataTransfer: None,
            IsStreamAware: None,
            CreateSyncStreamForDevice: None,
            GetHardwareDeviceIncompatibilityDetails: None,
            CreateExternalResourceImporterForDevice: None,
            GetNumCustomOpDomains: None,
            GetCustomOpDomains: None,
            since_25: [None; 3],
        }
    }
}

const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<OrtEpFactory>() == 168);
    assert!(offset_of!(OrtEpFactory, GetName) == 8);
    assert!(offset_of!(OrtEpFactory, GetSupportedDevices) == 3 * 8);
    assert!(offset_of!(OrtEpFactory, CreateEp) == 4 * 8);
    assert!(offset_of!(OrtEpFactory, ReleaseEp) == 5 * 8);
    assert!(offset_of!(OrtEpFactory, GetVersion) == 7 * 8);
    assert!(offset_of!(OrtEpFactory, CreateDataTransfer) == 11 * 8);
    assert!(offset_of!(OrtEpFactory, GetCustomOpDomains) == 17 * 8);
};
