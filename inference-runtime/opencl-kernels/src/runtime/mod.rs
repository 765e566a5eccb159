//! Devices, queues, buffers, programs: the only place that calls OpenCL.
#![expect(
    unsafe_code,
    reason = "OpenCL is a C interface; every other module of this crate is safe"
)]

mod buffer;
mod call;
mod context;
mod device;
mod disk_cache;
mod executor;
mod hex;
mod inspect;
mod instance;
mod kernel;
mod memory;
mod programs;
mod queue;
mod run;
mod traits;
mod transfer;

use buffer::Buffer;
use kernel::Kernel;
use programs::BuiltProgram;
use queue::Queue;

pub use context::DeviceContext;
pub use device::{Device, DeviceInfo, PciAddress, default_device, devices};
pub use disk_cache::DiskCache;
pub use executor::{Executor, ExecutorOptions, InputView, MemoryUse, Observed, OutputSink, StepTime};
pub use inspect::{KernelMemory, build_alone};
pub use memory::DeviceMemory;
pub use programs::Programs;
pub(crate) use transfer::transfer_times;

pub use traits::{DeviceKind, DeviceTraits};
