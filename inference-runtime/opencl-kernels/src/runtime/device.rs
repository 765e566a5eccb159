//! Discovery: which OpenCL devices this machine has, and what they say of themselves.

use std::ffi::c_void;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use opencl3::device as cl;
use opencl3::error_codes::{DLOPEN_FUNCTION_NOT_AVAILABLE, DLOPEN_RUNTIME_LOAD_FAILED};
use opencl3::platform::platform as cl_platform;

use super::call::check;
use super::hex::hex;
use super::{DeviceKind, DeviceTraits};
use crate::error::{Error, Result};

/// `CL_PLATFORM_NOT_FOUND_KHR`: the loader is there, but no driver.
const PLATFORM_NOT_FOUND: i32 = -1001;
/// `CL_DEVICE_NOT_FOUND`: a driver without devices, e.g. rusticl without `RUSTICL_ENABLE`.
const DEVICE_NOT_FOUND: i32 = -1;

/// A PCI address: what identifies a card on this machine, whatever order drivers list it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "PCI's own names")]
pub struct PciAddress {
    pub domain: u32,
    pub bus: u32,
    pub device: u32,
    pub function: u32,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct DeviceInfo {
    /// GPU or CPU.
    pub kind: DeviceKind,
    /// The device's name.
    pub name: String,
    /// The device's vendor.
    pub vendor: String,
    /// The vendor's PCI id, e.g. `0x1002` for AMD.
    pub vendor_id: u32,
    /// The platform (driver) that offers it, e.g. `rusticl`.
    pub platform: String,
    /// The driver's version.
    pub driver_version: String,
    /// OpenCL version, e.g. `OpenCL 3.0 …`.
    pub opencl_version: String,
    /// Compute units.
    pub compute_units: u32,
    /// Highest clock in MHz as the driver reports it.
    pub clock_mhz: u32,
    /// Device memory in bytes.
    pub global_memory: u64,
    /// Local memory per work-group in bytes.
    pub local_memory: u64,
    /// Largest single buffer in bytes.
    pub max_allocation: u64,
    /// Largest work-group.
    pub max_work_group: usize,
    /// Required alignment of a sub-buffer's start in bytes.
    pub alignment: usize,
    /// PCI address, where the driver tells it (`cl_khr_pci_bus_info`).
    pub pci: Option<PciAddress>,
    /// Device UUID in hexadecimal, where the driver tells it (`cl_khr_device_uuid`).
    pub uuid: Option<String>,
}

/// An OpenCL device.
#[derive(Debug, Clone)]
pub struct Device {
    id: *mut c_void,
    info: DeviceInfo,
}

// SAFETY: a cl_device_id of a root device is a process-wide handle; OpenCL allows its use from any thread.
unsafe impl Send for Device {}
// SAFETY: as above; a `Device` has no interior state.
unsafe impl Sync for Device {}

impl Device {
    /// What the device says of itself.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// What planning may know of it.
    pub fn traits(&self) -> DeviceTraits {
        DeviceTraits {
            kind: self.info.kind,
            compute_units: self.info.compute_units as usize,
            max_work_group: self.info.max_work_group,
            local_memory: self.info.local_memory as usize,
            max_allocation: self.info.max_allocation,
            alignment: self.info.alignment,
        }
    }

    pub(super) fn id(&self) -> *mut c_void {
        self.id
    }

    fn query(id: *mut c_void, platform: &str) -> Result<Self> {
        let uint = |what, parameter| -> Result<u32> { scalar(id, what, parameter).map(u32::from_le_bytes) };
        let ulong = |what, parameter| -> Result<u64> { scalar(id, what, parameter).map(u64::from_le_bytes) };
        let is_cpu = ulong("CL_DEVICE_TYPE", cl::CL_DEVICE_TYPE)? & cl::CL_DEVICE_TYPE_CPU != 0;
        let extensions = text(id, "CL_DEVICE_EXTENSIONS", cl::CL_DEVICE_EXTENSIONS)?;
        let has = |name: &str| extensions.split_ascii_whitespace().any(|e| e == name);
        // llvmpipe calls itself a CPU or not depending on the driver's version; its name does not change.
        let name = text(id, "CL_DEVICE_NAME", cl::CL_DEVICE_NAME)?;
        let kind = if is_cpu || name.contains("llvmpipe") {
            DeviceKind::Cpu
        } else {
            DeviceKind::Gpu
        };
        let alignment_bits = uint("CL_DEVICE_MEM_BASE_ADDR_ALIGN", cl::CL_DEVICE_MEM_BASE_ADDR_ALIGN)?;
        let size =
            |what, parameter| -> Result<usize> { scalar(id, what, parameter).map(usize::from_le_bytes) };
        let info = DeviceInfo {
            kind,
            name,
            vendor: text(id, "CL_DEVICE_VENDOR", cl::CL_DEVICE_VENDOR)?,
            vendor_id: uint("CL_DEVICE_VENDOR_ID", cl::CL_DEVICE_VENDOR_ID)?,
            platform: platform.to_owned(),
            driver_version: text(id, "CL_DRIVER_VERSION", cl::CL_DRIVER_VERSION)?,
            opencl_version: text(id, "CL_DEVICE_VERSION", cl::CL_DEVICE_VERSION)?,
            compute_units: uint("CL_DEVICE_MAX_COMPUTE_UNITS", cl::CL_DEVICE_MAX_COMPUTE_UNITS)?,
            clock_mhz: uint("CL_DEVICE_MAX_CLOCK_FREQUENCY", cl::CL_DEVICE_MAX_CLOCK_FREQUENCY)?,
            global_memory: ulong("CL_DEVICE_GLOBAL_MEM_SIZE", cl::CL_DEVICE_GLOBAL_MEM_SIZE)?,
            local_memory: ulong("CL_DEVICE_LOCAL_MEM_SIZE", cl::CL_DEVICE_LOCAL_MEM_SIZE)?,
            max_allocation: ulong("CL_DEVICE_MAX_MEM_ALLOC_SIZE", cl::CL_DEVICE_MAX_MEM_ALLOC_SIZE)?,
            max_work_group: size("CL_DEVICE_MAX_WORK_GROUP_SIZE", cl::CL_DEVICE_MAX_WORK_GROUP_SIZE)?,
            // The standard counts bits; 128 bytes hold the largest built-in type and are never wrong.
            alignment: (alignment_bits as usize / 8).max(128),
            pci: has("cl_khr_pci_bus_info").then(|| pci(id)).flatten(),
            uuid: has("cl_khr_device_uuid").then(|| uuid(id)).flatten(),
        };
        Ok(Self { id, info })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.info.name)?;
        self.info.pci.map_or(Ok(()), |pci| write!(f, " at {pci}"))
    }
}

/// Held while drivers are asked: their first call loads and initialises them, and PoCL 3.1 crashes or loses its device
/// when two threads do that at once.
static DISCOVERY: Mutex<()> = Mutex::new(());

/// Every GPU and CPU device of every OpenCL driver on this machine, in the drivers' order.
///
/// A machine without OpenCL has no devices; that is an answer, not an error.
pub fn devices() -> Result<Vec<Device>> {
    let _alone = DISCOVERY.lock().unwrap_or_else(PoisonError::into_inner);
    let platforms = match cl_platform::get_platform_ids() {
        Ok(platforms) => platforms,
        Err(PLATFORM_NOT_FOUND) => return Ok(Vec::new()),
        Err(DLOPEN_RUNTIME_LOAD_FAILED | DLOPEN_FUNCTION_NOT_AVAILABLE) => {
            tracing::debug!("libOpenCL.so is not installed: no OpenCL devices");
            return Ok(Vec::new());
        }
        Err(code) => return check("clGetPlatformIDs", || "this machine".to_owned(), Err(code)),
    };
    let mut found = Vec::new();
    for platform in platforms {
        let name = cl_platform::get_platform_data(platform, cl_platform::CL_PLATFORM_NAME)
            .map_or_else(|_| "unnamed".to_owned(), |bytes| trimmed(&bytes));
        let ids = match cl::get_device_ids(platform, cl::CL_DEVICE_TYPE_GPU | cl::CL_DEVICE_TYPE_CPU) {
            Ok(ids) => ids,
            Err(DEVICE_NOT_FOUND) => {
                let hint = if name == "rusticl" {
                    "set RUSTICL_ENABLE=radeonsi, and check that this user may open /dev/dri/renderD*"
                } else {
                    "check the driver's installation and the permissions of its device files"
                };
                tracing::warn!(platform = name, hint, "an OpenCL platform has no devices");
                Vec::new()
            }
            Err(code) => {
                // One broken driver must not hide the others.
                tracing::warn!(platform = name, code, "OpenCL platform does not list its devices");
                continue;
            }
        };
        for id in ids {
            match Device::query(id, &name) {
                Ok(device) => found.push(device),
                Err(error) => {
                    tracing::warn!(platform = name, %error, "skipping a device that does not describe itself");
                }
            }
        }
    }
    Ok(found)
}

/// The first GPU, or else the first device of any kind.
pub fn default_device() -> Result<Device> {
    let mut all = devices()?;
    let gpu = all.iter().position(|d| d.info.kind == DeviceKind::Gpu);
    if all.is_empty() {
        return Err(Error::NoDevice(
            "no OpenCL platform offers a GPU or CPU; install a driver (mesa-opencl-icd with RUSTICL_ENABLE=radeonsi \
             for AMD cards, pocl-opencl-icd for CPUs)"
                .to_owned(),
        ));
    }
    Ok(all.swap_remove(gpu.unwrap_or(0)))
}

fn data(id: *mut c_void, what: &'static str, parameter: u32) -> Result<Vec<u8>> {
    check(
        "clGetDeviceInfo",
        || what.to_owned(),
        cl::get_device_data(id, parameter),
    )
}

fn text(id: *mut c_void, what: &'static str, parameter: u32) -> Result<String> {
    Ok(trimmed(&data(id, what, parameter)?))
}

fn scalar<const N: usize>(id: *mut c_void, what: &'static str, parameter: u32) -> Result<[u8; N]> {
    let bytes = data(id, what, parameter)?;
    bytes.as_slice().try_into().map_err(|_| Error::OpenCl {
        operation: "clGetDeviceInfo",
        object: what.to_owned(),
        code: 0,
        name: format!("{} bytes instead of {N}", bytes.len()),
    })
}

fn pci(id: *mut c_void) -> Option<PciAddress> {
    let bytes = cl::get_device_data(id, cl::CL_DEVICE_PCI_BUS_INFO_KHR).ok()?;
    let (words, []) = bytes.as_chunks::<4>() else {
        return None;
    };
    let [domain, bus, device, function] = *words else {
        return None;
    };
    Some(PciAddress {
        domain: u32::from_le_bytes(domain),
        bus: u32::from_le_bytes(bus),
        device: u32::from_le_bytes(device),
        function: u32::from_le_bytes(function),
    })
}

fn uuid(id: *mut c_void) -> Option<String> {
    let bytes = cl::get_device_data(id, cl::CL_DEVICE_UUID_KHR).ok()?;
    Some(hex(&bytes))
}

fn trimmed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end_matches('\0')
        .trim()
        .to_owned()
}
