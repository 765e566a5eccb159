//! OpenCL devices as ONNX Runtime sees them.
//!
//! One `OrtEpDevice` per OpenCL device. Where the runtime's own discovery lists the same card, the two are paired by
//! PCI address; otherwise a virtual GPU device stands for it, also for an OpenCL device on a CPU: that is how a user
//! tells it from ONNX Runtime's own CPU.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opencl_kernels::runtime::{Device, DeviceContext, DeviceKind, DiskCache, devices};
use ort_ep_sys::{
    Host, OrtEpDevice, OrtEpFactory, OrtHardwareDevice, OrtHardwareDeviceType, OrtKeyValuePairs,
};

use crate::failure::Failure;
use crate::options::{CacheDir, Options};
use crate::pairs::{Pairs, value_of};

/// The metadata key that says which of our devices an `OrtEpDevice` stands for.
const INDEX: &CStr = c"device_index";

/// The key under which ONNX Runtime's Linux discovery gives a card's PCI address.
const HOST_PCI: &CStr = c"pci_bus_id";

/// ONNX Runtime takes no more devices from one factory.
const MOST: usize = 8;

/// The devices of one factory.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    found: Vec<Device>,
    /// Hardware devices we made; the runtime only borrows them.
    virtual_hardware: Vec<VirtualHardware>,
    /// Devices in use, shared by all sessions on them: programs are built and constants of the driver are paid once.
    opened: HashMap<(usize, CacheDir), Arc<DeviceContext>>,
}

#[derive(Debug)]
struct VirtualHardware(*mut OrtHardwareDevice);

// SAFETY: a plain object of the runtime that we only hold and release.
unsafe impl Send for VirtualHardware {}

impl Devices {
    /// Pairs of the provider with hardware, at most `capacity`; the runtime owns them. A machine without OpenCL has
    /// none, which is no error.
    ///
    /// # Safety
    /// `factory` and `hardware` are alive.
    pub(crate) unsafe fn offer(
        &self,
        host: Host,
        factory: *mut OrtEpFactory,
        hardware: &[*const OrtHardwareDevice],
        capacity: usize,
    ) -> Result<Vec<*mut OrtEpDevice>, Failure> {
        let mut inner = self.inner();
        // Listed once, so that an index keeps its meaning for the factory's life.
        if inner.found.is_empty() {
            inner.found = devices()?;
        }
        let mut offered = Offered {
            host,
            devices: Vec::new(),
        };
        for index in 0..inner.found.len().min(capacity).min(MOST) {
            let device = inner.found[index].clone();
            // SAFETY: the hardware is alive.
            let card = match unsafe { same_card(host, hardware, &device) } {
                Some(card) => card,
                None => inner.make_hardware(host, &device)?,
            };
            let metadata = metadata(host, index, &device);
            let mut ep_device = ptr::null_mut();
            // SAFETY: factory and hardware are alive; the runtime copies the metadata.
            host.check(unsafe {
                (host.ep.CreateEpDevice)(factory, card, metadata.handle(), ptr::null(), &raw mut ep_device)
            })?;
            offered.devices.push(ep_device);
        }
        Ok(offered.into_runtimes())
    }

    /// The device that this metadata stands for, opened.
    ///
    /// # Safety
    /// `metadata` is null or alive.
    pub(crate) unsafe fn open(
        &self,
        host: Host,
        metadata: *const OrtKeyValuePairs,
        options: &Options,
    ) -> Result<Arc<DeviceContext>, Failure> {
        // SAFETY: the caller's promise.
        let index = unsafe { value_of(host, metadata, INDEX) }
            .and_then(|text| text.parse::<usize>().ok())
            .ok_or_else(|| {
                Failure::invalid("the selected device is none of ours: it has no 'device_index'")
            })?;
        let mut inner = self.inner();
        let device = inner
            .found
            .get(index)
            .cloned()
            .ok_or_else(|| Failure::invalid(format!("there is no OpenCL device {index}")))?;
        let key = (index, options.cache_dir.clone());
        if let Some(context) = inner.opened.get(&key) {
            return Ok(Arc::clone(context));
        }
        let context = DeviceContext::open_with(device, disk_cache(&options.cache_dir))?;
        inner.opened.insert(key, Arc::clone(&context));
        Ok(context)
    }

    /// Gives back what the runtime's objects of this factory held.
    pub(crate) fn release(&self, host: Host) {
        let mut inner = self.inner();
        for hardware in inner.virtual_hardware.drain(..) {
            // SAFETY: made by us, released once; the runtime has dropped its devices before the factory.
            unsafe { (host.ep.ReleaseHardwareDevice)(hardware.0) };
        }
        inner.opened.clear();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn make_hardware(&mut self, host: Host, device: &Device) -> Result<*const OrtHardwareDevice, Failure> {
        let info = device.info();
        let vendor = CString::new(info.vendor.replace('\0', "")).unwrap_or_default();
        let metadata = Pairs::of(
            host,
            [
                (c"IsVirtual", "1".to_owned()),
                (c"Description", format!("{} through OpenCL", info.name)),
            ],
        );
        let mut made = ptr::null_mut();
        // SAFETY: the runtime copies texts and metadata; the device is ours.
        host.check(unsafe {
            (host.ep.CreateHardwareDevice)(
                OrtHardwareDeviceType::OrtHardwareDeviceType_GPU,
                info.vendor_id,
                0,
                vendor.as_ptr(),
                metadata.handle(),
                &raw mut made,
            )
        })?;
        self.virtual_hardware.push(VirtualHardware(made));
        Ok(made)
    }
}

/// Devices made so far; released if a later one fails.
struct Offered {
    host: Host,
    devices: Vec<*mut OrtEpDevice>,
}

impl Offered {
    fn into_runtimes(mut self) -> Vec<*mut OrtEpDevice> {
        std::mem::take(&mut self.devices)
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        for device in self.devices.drain(..) {
            // SAFETY: made by us and not handed to the runtime.
            unsafe { (self.host.ep.ReleaseEpDevice)(device) };
        }
    }
}

/// The runtime's entry for the same card, if its discovery has one.
///
/// # Safety
/// `hardware` is alive.
unsafe fn same_card(
    host: Host,
    hardware: &[*const OrtHardwareDevice],
    device: &Device,
) -> Option<*const OrtHardwareDevice> {
    let info = device.info();
    if info.kind != DeviceKind::Gpu {
        return None;
    }
    let address = info.pci?.to_string();
    hardware.iter().copied().find(|&card| {
        // SAFETY: the caller's promise; metadata lives as long as its device.
        unsafe {
            (host.api.HardwareDevice_Type)(card) == OrtHardwareDeviceType::OrtHardwareDeviceType_GPU
                && value_of(host, (host.api.HardwareDevice_Metadata)(card), HOST_PCI)
                    .is_some_and(|theirs| theirs.eq_ignore_ascii_case(&address))
        }
    })
}

fn metadata(host: Host, index: usize, device: &Device) -> Pairs {
    let info = device.info();
    let entries = [
        (INDEX, Some(index.to_string())),
        (c"opencl_name", Some(info.name.clone())),
        (c"opencl_platform", Some(info.platform.clone())),
        (c"opencl_version", Some(info.opencl_version.clone())),
        (c"driver_version", Some(info.driver_version.clone())),
        (c"pci_address", info.pci.map(|pci| pci.to_string())),
        (c"uuid", info.uuid.clone()),
    ];
    Pairs::of(
        host,
        entries.into_iter().filter_map(|(key, value)| Some((key, value?))),
    )
}

fn disk_cache(choice: &CacheDir) -> DiskCache {
    match choice {
        CacheDir::Default => DiskCache::in_default_folder(),
        CacheDir::None => DiskCache::none(),
        CacheDir::At(folder) => DiskCache::new(folder),
    }
}
