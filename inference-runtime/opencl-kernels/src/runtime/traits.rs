//! What planning may know of a device.

/// Coarse kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A GPU.
    Gpu,
    /// A CPU behind an OpenCL runtime (PoCL, Intel's): local memory is ordinary memory, barriers are costly.
    Cpu,
}

impl std::fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gpu => "GPU",
            Self::Cpu => "CPU",
        })
    }
}

/// What planning may know of a device: plain data, so that plans can be made and tested without one.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceTraits {
    /// Kind.
    pub kind: DeviceKind,
    /// Compute units.
    pub compute_units: usize,
    /// Largest work-group.
    pub max_work_group: usize,
    /// Local memory per work-group in bytes.
    pub local_memory: usize,
    /// Largest single buffer in bytes.
    pub max_allocation: u64,
    /// Required alignment of a sub-buffer's start in bytes.
    pub alignment: usize,
}
