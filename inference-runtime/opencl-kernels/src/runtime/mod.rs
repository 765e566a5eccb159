//! Devices, queues, buffers, programs: the only place that calls OpenCL.

mod traits;

pub use traits::{DeviceKind, DeviceTraits};
