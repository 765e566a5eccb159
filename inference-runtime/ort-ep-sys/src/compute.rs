//! What a provider hands back for each node it has compiled.

use std::ffi::c_void;

use crate::{OrtKernelContext, OrtNodeComputeContext, OrtStatusPtr};

/// The functions of one compiled (fused) node.
#[repr(C)]
#[derive(Debug)]
pub struct OrtNodeComputeInfo {
    /// [`API_VERSION`](crate::API_VERSION).
    pub ort_version_supported: u32,
    /// Makes the state that every `Compute` gets; called once per session.
    pub CreateState: Option<
        unsafe extern "system" fn(
            this: *mut OrtNodeComputeInfo,
            context: *mut OrtNodeComputeContext,
            state: *mut *mut c_void,
        ) -> OrtStatusPtr,
    >,
    /// One run; concurrent unless `IsConcurrentRunSupported` says no.
    pub Compute: Option<
        unsafe extern "system" fn(
            this: *mut OrtNodeComputeInfo,
            state: *mut c_void,
            context: *mut OrtKernelContext,
        ) -> OrtStatusPtr,
    >,
    /// Ends the state. Not called for a null state.
    pub ReleaseState: Option<unsafe extern "system" fn(this: *mut OrtNodeComputeInfo, state: *mut c_void)>,
}

/// How a group of claimed nodes is to be fused.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct OrtNodeFusionOptions {
    /// [`API_VERSION`](crate::API_VERSION).
    pub ort_version_supported: u32,
    /// The provider keeps its own copy of constant initializers: they are no inputs of the fused node, and the
    /// runtime may free them.
    pub drop_constant_initializers: bool,
}

const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<OrtNodeComputeInfo>() == 32);
    assert!(offset_of!(OrtNodeComputeInfo, CreateState) == 8);
    assert!(offset_of!(OrtNodeComputeInfo, ReleaseState) == 24);
    assert!(size_of::<OrtNodeFusionOptions>() == 8);
    assert!(offset_of!(OrtNodeFusionOptions, drop_constant_initializers) == 4);
};
