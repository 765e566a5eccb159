//! The factory: one per registration of the library.

use std::ffi::c_char;
use std::slice;
use std::sync::Arc;

use ort_ep_sys::{
    Host, OrtEp, OrtEpDevice, OrtEpFactory, OrtHardwareDevice, OrtKeyValuePairs, OrtLogger,
    OrtSessionOptions, OrtStatusPtr,
};

use crate::device::Devices;
use crate::ep::Ep;
use crate::failure::{Failure, guard, guard_silent};
use crate::log::Log;
use crate::options::Options;
use crate::pairs::Pairs;
use crate::{data_transfer, names};

/// The factory as we share it: the runtime holds one reference until `ReleaseEpFactory`, each provider another.
#[repr(C)]
pub(crate) struct Shared {
    abi: OrtEpFactory,
    host: Host,
    devices: Devices,
}

impl Shared {
    /// A factory.
    pub(crate) fn new(host: Host) -> Arc<Self> {
        Arc::new(Self {
            abi: OrtEpFactory {
                GetName: Some(get_name),
                GetVendor: Some(get_vendor),
                GetSupportedDevices: Some(get_supported_devices),
                CreateEp: Some(create_ep),
                ReleaseEp: Some(release_ep),
                GetVendorId: Some(get_vendor_id),
                GetVersion: Some(get_version),
                CreateDataTransfer: Some(data_transfer::create),
                IsStreamAware: Some(is_stream_aware),
                ..OrtEpFactory::empty()
            },
            host,
            devices: Devices::default(),
        })
    }

    /// Gives the runtime its reference.
    pub(crate) fn into_raw(self: Arc<Self>) -> *mut OrtEpFactory {
        Arc::into_raw(self).cast_mut().cast()
    }

    /// Takes the runtime's reference back.
    ///
    /// # Safety
    /// `factory` came from [`into_raw`](Self::into_raw) and has not been taken back before.
    pub(crate) unsafe fn release(factory: *mut OrtEpFactory) {
        if factory.is_null() {
            return;
        }
        // SAFETY: the caller's promise.
        let shared = unsafe { Arc::from_raw(factory.cast::<Self>().cast_const()) };
        shared.devices.release(shared.host);
    }

    /// Another reference to a factory that the runtime holds.
    ///
    /// # Safety
    /// `factory` came from [`into_raw`](Self::into_raw) and has not been taken back.
    unsafe fn of(factory: *mut OrtEpFactory) -> Arc<Self> {
        let shared = factory.cast::<Self>().cast_const();
        // SAFETY: the caller's promise: the count is at least one, and the new reference adds one.
        unsafe {
            Arc::increment_strong_count(shared);
            Arc::from_raw(shared)
        }
    }
}

// SAFETY: the struct of function pointers is never written to; the rest is shareable.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

unsafe extern "system" fn get_name(_this: *const OrtEpFactory) -> *const c_char {
    names::PROVIDER.as_ptr()
}

unsafe extern "system" fn get_vendor(_this: *const OrtEpFactory) -> *const c_char {
    names::VENDOR.as_ptr()
}

/// We make no hardware, so there is no vendor's id to give.
unsafe extern "system" fn get_vendor_id(_this: *const OrtEpFactory) -> u32 {
    0
}

unsafe extern "system" fn get_version(_this: *const OrtEpFactory) -> *const c_char {
    names::VERSION.as_ptr()
}

unsafe extern "system" fn is_stream_aware(_this: *const OrtEpFactory) -> bool {
    false
}

unsafe extern "system" fn get_supported_devices(
    this: *mut OrtEpFactory,
    hardware: *const *const OrtHardwareDevice,
    count: usize,
    ep_devices: *mut *mut OrtEpDevice,
    capacity: usize,
    written: *mut usize,
) -> OrtStatusPtr {
    // SAFETY: the runtime passes what `into_raw` gave.
    let shared = unsafe { &*this.cast::<Shared>() };
    guard(shared.host, "listing devices", || {
        // SAFETY: the runtime passes an array of `count` devices and a place for the number.
        let hardware = unsafe {
            *written = 0;
            if count == 0 {
                &[]
            } else {
                slice::from_raw_parts(hardware, count)
            }
        };
        // SAFETY: the factory and the hardware are alive.
        let offered = unsafe { shared.devices.offer(shared.host, this, hardware, capacity) }?;
        for (i, device) in offered.iter().enumerate() {
            // SAFETY: `offer` gives at most `capacity` devices.
            unsafe { *ep_devices.add(i) = *device };
        }
        // SAFETY: as above.
        unsafe { *written = offered.len() };
        Ok(())
    })
}

unsafe extern "system" fn create_ep(
    this: *mut OrtEpFactory,
    _hardware: *const *const OrtHardwareDevice,
    metadata: *const *const OrtKeyValuePairs,
    count: usize,
    session_options: *const OrtSessionOptions,
    logger: *const OrtLogger,
    ep: *mut *mut OrtEp,
) -> OrtStatusPtr {
    // SAFETY: the runtime passes what `into_raw` gave.
    let shared = unsafe { Shared::of(this) };
    let host = shared.host;
    guard(host, "creating the provider", || {
        if count != 1 {
            return Err(Failure::invalid(format!(
                "a session runs on exactly one device, {count} were selected; add one of them"
            )));
        }
        // SAFETY: alive during this call.
        let entries = unsafe { Pairs::of_session(host, session_options) }?.entries();
        let options = Options::parse(entries.iter().map(|(k, v)| (k.as_str(), v.as_str())))
            .map_err(Failure::invalid)?;
        // SAFETY: the array has `count` entries, alive during this call.
        let context = unsafe { shared.devices.open(host, *metadata, &options) }?;
        let made = Ep::new(
            host,
            Log::new(host, logger),
            options,
            context,
            Arc::clone(&shared),
        );
        // SAFETY: the runtime passes a place for the provider.
        unsafe { *ep = made.into_raw() };
        Ok(())
    })
}

unsafe extern "system" fn release_ep(_this: *mut OrtEpFactory, ep: *mut OrtEp) {
    // SAFETY: the runtime gives back what `create_ep` wrote, once.
    guard_silent((), || unsafe { Ep::release(ep) });
}
