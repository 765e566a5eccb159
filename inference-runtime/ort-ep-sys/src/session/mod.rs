//! What a host needs of ONNX Runtime's C API that the `ort` crate does not wrap.
//!
//! Behind the feature `session`: the plugin itself never needs `ort`.

mod assignment;
mod device;
mod heap;
mod observe;
mod strings;

pub use assignment::{AssignedNode, AssignedSubgraph, assignment};
pub use device::device_metadata;
pub use heap::{keep_heap_small, release_unused_memory};
pub use observe::{Launch, Run, Watch};
pub use strings::{string_elements, string_tensor};

fn check(status: ort_sys::OrtStatusPtr) -> Result<(), ort::Error> {
    // SAFETY: the status comes from a call of the C API and is handed over exactly once.
    unsafe { ort::Error::result_from_status(status) }
}
