//! A provider instance: one per session.

use std::ffi::c_char;

use crate::{OrtEpGraphSupportInfo, OrtGraph, OrtNode, OrtNodeComputeInfo, OrtStatusPtr, Unfilled};

/// One session's provider. Own fields go behind it, in a larger `#[repr(C)]` struct that starts with this one.
///
/// The layout is 1.28's, the newest we know: with [`API_VERSION`](crate::API_VERSION) in the first field a runtime
/// reads fewer slots, never more.
#[repr(C)]
#[derive(Debug)]
pub struct OrtEp {
    /// [`API_VERSION`](crate::API_VERSION).
    pub ort_version_supported: u32,
    /// The provider's name.
    pub GetName: Option<unsafe extern "system" fn(this: *const OrtEp) -> *const c_char>,
    /// Claims nodes of a graph; bodies of control flow come first, as graphs of their own.
    pub GetCapability: Option<
        unsafe extern "system" fn(
            this: *mut OrtEp,
            graph: *const OrtGraph,
            support: *mut OrtEpGraphSupportInfo,
        ) -> OrtStatusPtr,
    >,
    /// Compiles `count` claimed groups. An error fails the session: the nodes do not go back to the CPU.
    pub Compile: Option<
        unsafe extern "system" fn(
            this: *mut OrtEp,
            graphs: *mut *const OrtGraph,
            fused_nodes: *mut *const OrtNode,
            count: usize,
            infos: *mut *mut OrtNodeComputeInfo,
            context_nodes: *mut *mut OrtNode,
        ) -> OrtStatusPtr,
    >,
    /// Ends what `Compile` gave out.
    pub ReleaseNodeComputeInfos: Option<
        unsafe extern "system" fn(this: *mut OrtEp, infos: *mut *mut OrtNodeComputeInfo, count: usize),
    >,
    /// Unfilled: NCHW.
    pub GetPreferredDataLayout: Unfilled,
    /// Unfilled: NCHW.
    pub ShouldConvertDataLayoutForOp: Unfilled,
    /// Unfilled: no options change after a session was made.
    pub SetDynamicOptions: Unfilled,
    /// Unfilled: nothing to do per run.
    pub OnRunStart: Unfilled,
    /// Unfilled: nothing to do per run.
    pub OnRunEnd: Unfilled,
    /// Unfilled: no device memory at the borders.
    pub CreateAllocator: Unfilled,
    /// Unfilled: no streams.
    pub CreateSyncStreamForDevice: Unfilled,
    /// Unfilled: no compiled models.
    pub GetCompiledModelCompatibilityInfo: Unfilled,
    /// Unfilled: no kernels beside compiled groups.
    pub GetKernelRegistry: Unfilled,
    /// Whether several threads may call `Compute` of one node at a time (since 1.24).
    pub IsConcurrentRunSupported:
        Option<unsafe extern "system" fn(this: *mut OrtEp, supported: *mut bool) -> OrtStatusPtr>,
    /// Since 1.25: `Sync`, `CreateProfiler`, `IsGraphCaptureEnabled`, `IsGraphCaptured`, `ReplayGraph`,
    /// `GetGraphCaptureNodeAssignmentPolicy`, `GetAvailableResource`, `OnSessionInitializationEnd`,
    /// `GetDefaultMemoryDevice`, `ReleaseCapturedGraph`.
    pub since_25: [Unfilled; 10],
}

impl OrtEp {
    /// No slot filled.
    pub const fn empty() -> Self {
        Self {
            ort_version_supported: crate::API_VERSION,
            GetName: None,
            GetCapability: None,
            Compile: None,
            ReleaseNodeComputeInfos: None,
            GetPreferredDataLayout: None,
            ShouldConvertDataLayoutForOp: None,
            SetDynamicOptions: None,
            OnRunStart: None,
            OnRunEnd: None,
            CreateAllocator: None,
            CreateSyncStreamForDevice: None,
            GetCompiledModelCompatibilityInfo: None,
            GetKernelRegistry: None,
            IsConcurrentRunSupported: None,
            since_25: [None; 10],
        }
    }
}

const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<OrtEp>() == 200);
    assert!(offset_of!(OrtEp, GetName) == 8);
    assert!(offset_of!(OrtEp, GetCapability) == 2 * 8);
    assert!(offset_of!(OrtEp, Compile) == 3 * 8);
    assert!(offset_of!(OrtEp, ReleaseNodeComputeInfos) == 4 * 8);
    assert!(offset_of!(OrtEp, CreateAllocator) == 10 * 8);
    assert!(offset_of!(OrtEp, GetKernelRegistry) == 13 * 8);
    assert!(offset_of!(OrtEp, IsConcurrentRunSupported) == 14 * 8);
};
