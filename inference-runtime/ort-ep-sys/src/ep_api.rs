//! The table of functions that the runtime offers to providers.

use std::ffi::c_char;

use crate::{
    OrtEpDevice, OrtEpFactory, OrtEpGraphSupportInfo, OrtHardwareDevice, OrtHardwareDeviceType,
    OrtKeyValuePairs, OrtMemoryDevice, OrtNode, OrtNodeComputeContext, OrtNodeFusionOptions, OrtStatusPtr,
    OrtValue, Uncalled,
};

/// The head of the runtime's table, up to what we call; newer runtimes append to it. Only ever seen behind a
/// reference that the runtime gives out, so what lies behind the last slot does not matter.
#[repr(C)]
#[derive(Debug)]
pub struct OrtEpApi {
    /// Pairs a provider with hardware. Metadata and options are copied; the caller releases its own.
    pub CreateEpDevice: unsafe extern "system" fn(
        factory: *mut OrtEpFactory,
        hardware: *const OrtHardwareDevice,
        metadata: *const OrtKeyValuePairs,
        options: *const OrtKeyValuePairs,
        device: *mut *mut OrtEpDevice,
    ) -> OrtStatusPtr,
    /// Ends a device that was not handed to the runtime.
    pub ReleaseEpDevice: unsafe extern "system" fn(device: *mut OrtEpDevice),
    /// Claims nodes that are to become one; no path between two of them may leave the group.
    pub EpGraphSupportInfo_AddNodesToFuse: unsafe extern "system" fn(
        support: *mut OrtEpGraphSupportInfo,
        nodes: *const *const OrtNode,
        count: usize,
        options: *const OrtNodeFusionOptions,
    ) -> OrtStatusPtr,
    /// `EpGraphSupportInfo_AddSingleNode`: for kernels, of which we have none.
    pub single_node: Uncalled,
    /// The fused node's name; valid only during `CreateState`.
    pub NodeComputeContext_NodeName:
        unsafe extern "system" fn(context: *const OrtNodeComputeContext) -> *const c_char,
    /// `EpDevice_AddAllocatorInfo`, `MemoryInfo_GetMemoryDevice`: no device memory at the borders.
    pub allocators: [Uncalled; 2],
    /// Where a tensor lies; null for what is no tensor.
    pub Value_GetMemoryDevice: unsafe extern "system" fn(value: *const OrtValue) -> *const OrtMemoryDevice,
    /// `MemoryDevice_AreEqual`.
    pub memory_device_equal: Uncalled,
    /// Kind of memory: 0 is the host's.
    pub MemoryDevice_GetDeviceType: unsafe extern "system" fn(device: *const OrtMemoryDevice) -> i32,
    /// `MemoryDevice_GetMemoryType`, `_GetVendorId`, `_GetDeviceId`.
    pub memory_device: [Uncalled; 3],
    /// `SyncStream_GetImpl`, `SyncStream_GetSyncId`, `GetSyncIdForLastWaitOnSyncStream`.
    pub streams: [Uncalled; 3],
    /// Makes a hardware device that the runtime's own discovery did not find; the caller owns it.
    pub CreateHardwareDevice: unsafe extern "system" fn(
        kind: OrtHardwareDeviceType,
        vendor_id: u32,
        device_id: u32,
        vendor: *const c_char,
        metadata: *const OrtKeyValuePairs,
        device: *mut *mut OrtHardwareDevice,
    ) -> OrtStatusPtr,
    /// Ends a device made with `CreateHardwareDevice`.
    pub ReleaseHardwareDevice: unsafe extern "system" fn(device: *mut OrtHardwareDevice),
}

const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<OrtEpApi>() == 18 * 8);
    assert!(offset_of!(OrtEpApi, EpGraphSupportInfo_AddNodesToFuse) == 2 * 8);
    assert!(offset_of!(OrtEpApi, NodeComputeContext_NodeName) == 4 * 8);
    assert!(offset_of!(OrtEpApi, Value_GetMemoryDevice) == 7 * 8);
    assert!(offset_of!(OrtEpApi, MemoryDevice_GetDeviceType) == 9 * 8);
    assert!(offset_of!(OrtEpApi, CreateHardwareDevice) == 16 * 8);
    assert!(offset_of!(OrtEpApi, ReleaseHardwareDevice) == 17 * 8);
};

/// The slots of `OrtApi` we call, where ONNX Runtime's header has them: a guard against `ort-sys` losing one.
const _: () = {
    use std::mem::offset_of;

    use crate::OrtApi;
    assert!(offset_of!(OrtApi, CreateStatus) == 0);
    assert!(offset_of!(OrtApi, ReleaseStatus) == 93 * 8);
    assert!(offset_of!(OrtApi, GetDimensions) == 62 * 8);
    assert!(offset_of!(OrtApi, KernelContext_GetOutput) == 91 * 8);
    assert!(offset_of!(OrtApi, Logger_LogMessage) == 247 * 8);
    assert!(offset_of!(OrtApi, ReadOpAttr) == 272 * 8);
    assert!(offset_of!(OrtApi, GetEpApi) == 317 * 8);
    assert!(offset_of!(OrtApi, Graph_GetNodes) == 345 * 8);
    assert!(offset_of!(OrtApi, OpAttr_GetTensorAttributeAsOrtValue) == 362 * 8);
    assert!(offset_of!(OrtApi, GetTensorData) == 378 * 8);
    assert!(offset_of!(OrtApi, TensorTypeAndShape_HasShape) == 390 * 8);
};
