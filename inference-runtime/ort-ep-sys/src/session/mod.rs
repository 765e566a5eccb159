//! What a host needs of ONNX Runtime's C API that the `ort` crate does not wrap.
//!
//! Behind the feature `session`: the plugin itself never needs `ort`.

mod assignment;
mod device;
mod heap;

pub use assignment::{AssignedNode, AssignedSubgraph, assignment};
pub use device::device_metadata;
pub use heap::release_unused_memory;
