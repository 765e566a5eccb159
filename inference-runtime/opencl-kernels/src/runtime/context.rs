//! A device opened for work: its context, its programs, its memory.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use opencl3::context::context as cl;

use super::call::{check, released};
use super::{Device, DeviceMemory, DeviceTraits, DiskCache, Programs};
use crate::error::Result;

/// A device opened for work. Shared by all executors of the device.
#[derive(Debug)]
pub struct DeviceContext {
    device: Device,
    traits: DeviceTraits,
    memory: Arc<DeviceMemory>,
    programs: Programs,
    handle: Handle,
}

impl DeviceContext {
    /// Opens a device; built programs are kept in the default folder (see [`DiskCache::default_folder`]).
    pub fn open(device: Device) -> Result<Arc<Self>> {
        Self::open_with(device, DiskCache::in_default_folder())
    }

    /// Opens a device; built programs are kept in `cache`.
    pub fn open_with(device: Device, cache: DiskCache) -> Result<Arc<Self>> {
        let traits = device.traits();
        Self::open_as(device, cache, traits)
    }

    /// Opens a device and plans for it as if it had these traits: a CPU runtime can so run the kernels that GPUs get.
    pub fn open_as(device: Device, cache: DiskCache, traits: DeviceTraits) -> Result<Arc<Self>> {
        let created = cl::create_context(&[device.id()], ptr::null(), None, ptr::null_mut());
        let handle = Handle(check("clCreateContext", || device.to_string(), created)?);
        Ok(Arc::new(Self {
            traits,
            memory: Arc::new(DeviceMemory::new(device.to_string(), device.info())),
            programs: Programs::new(cache),
            handle,
            device,
        }))
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What planning may know of it.
    pub fn traits(&self) -> &DeviceTraits {
        &self.traits
    }

    /// What is allocated on it by us.
    pub fn memory(&self) -> &Arc<DeviceMemory> {
        &self.memory
    }

    /// The programs built for it.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    pub(super) fn handle(&self) -> *mut c_void {
        self.handle.0
    }
}

#[derive(Debug)]
struct Handle(*mut c_void);

// SAFETY: OpenCL's calls on a context are thread-safe; the handle is only released once, on drop.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: we created the context and release it once; buffers, queues and programs hold references of
        // their own inside OpenCL.
        released("clReleaseContext", unsafe { cl::release_context(self.0) });
    }
}
