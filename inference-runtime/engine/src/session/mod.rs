//! Sessions of ONNX Runtime: where the library is, which device a session is for, how tensors go in and out.
//!
//! Everything here blocks and is called from threads made for it, never from the async runtime. Nothing here knows
//! requests, queues or folders.

mod device;
mod failure;
mod launches;
mod library;
mod loaded;
mod placement;
mod runtime;
mod value;

pub(crate) use device::{Device, PROVIDER};
pub use device::{DeviceChoice, DeviceError};
pub use library::LibraryError;
pub(crate) use loaded::{Port, RunHandle, Session};
pub(crate) use placement::{NodePlacement, Placed};
pub(crate) use runtime::Runtime;
pub use runtime::RuntimeError;
