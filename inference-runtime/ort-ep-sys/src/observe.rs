//! What a host may watch of our provider's runs. This is not ONNX Runtime's interface but ours, between two files that are
//! built together and loaded apart: the provider's library and the engine.
//!
//! The provider's library exports [`SYMBOL`]. A thread that calls it with an [`Observer`] is told of each fused node that runs
//! on that thread from then on, until it calls with none. Watched runs go through a queue with timestamps, unwatched ones cost
//! one look at a thread's own variable.

use std::ffi::{CStr, c_char, c_void};

/// Under this name the library exports a [`SetObserver`]. Another layout gets another name.
pub const SYMBOL: &CStr = c"AfterglowObserveRuns1";

/// Sets this thread's observer and what it is called with; `None` unsets it.
pub type SetObserver = unsafe extern "C" fn(observer: Option<Observer>, data: *mut c_void);

/// Is told of one fused node's run, on the thread that ran it; what it is shown lives until it returns. It must not unwind.
pub type Observer = unsafe extern "C" fn(data: *mut c_void, run: *const ObservedRun);

/// Text that is not terminated.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ObservedText {
    /// UTF-8.
    pub bytes: *const c_char,
    /// Bytes.
    pub length: usize,
}

/// One run of a fused node. Times are nanoseconds since it began.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ObservedRun {
    /// The fused node's name.
    pub node: ObservedText,
    /// When it began: nanoseconds since 1970.
    pub began_unix: u64,
    /// When the plan for its shapes was there.
    pub planned: u64,
    /// Whether it had been made before.
    pub plan_cached: bool,
    /// When it ended.
    pub ended: u64,
    /// What the device did, in order.
    pub launches: *const ObservedLaunch,
    /// How many.
    pub launch_count: usize,
}

/// One kernel launch, or one copy between buffers. Times are nanoseconds since the run began, on the device's clock as far as
/// it could be laid over the host's.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ObservedLaunch {
    /// The kernel, or `copy`.
    pub kernel: ObservedText,
    /// The node of the model that it computes.
    pub node: ObservedText,
    /// That node's operator.
    pub operator: ObservedText,
    /// Work-items; all 0 for a copy.
    pub global: [u64; 3],
    /// Work-items of a group; all 0 for a copy.
    pub local: [u64; 3],
    /// When the device began.
    pub begin: u64,
    /// When it ended.
    pub end: u64,
}

impl ObservedText {
    /// The text, for as long as it lives.
    pub fn of(text: &str) -> Self {
        Self {
            bytes: text.as_ptr().cast(),
            length: text.len(),
        }
    }
}

// Both sides are built from this file; a change of it that moves a field needs another `SYMBOL`.
const _: () = {
    assert!(size_of::<ObservedRun>() == 64);
    assert!(size_of::<ObservedLaunch>() == 112);
};
