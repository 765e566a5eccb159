//! ONNX Runtime's execution-provider ABI, as far as Afterglow uses it.
//!
//! `ort-sys` has all of `OrtApi` but leaves the provider's side opaque: the table a provider calls ([`OrtEpApi`]) and
//! the structs it fills ([`OrtEpFactory`], [`OrtEp`], [`OrtNodeComputeInfo`], …). They are written here by hand, after
//! the released headers of microsoft/onnxruntime, and held in place by `const` assertions on sizes and offsets.
//!
//! The structs are append-only between releases. We declare to the runtime the version whose slots we may fill
//! ([`API_VERSION`]), never `ort_sys::ORT_API_VERSION`: cargo unifies features across a workspace, so that constant
//! can name a newer layout than ours.
//!
//! This crate decides nothing: no claims, no kernels, no policy. [`Host`] turns raw statuses into errors.

#![expect(unsafe_code, reason = "the C ABI of another program's plugin interface")]
#![allow(non_snake_case, reason = "the slots are named as ONNX Runtime names them")]

mod compute;
mod data_transfer;
mod ep;
mod ep_api;
mod factory;
mod host;
pub mod observe;
mod opaque;
#[cfg(feature = "session")]
pub mod session;

pub use ort_sys::{
    OrtApi, OrtApiBase, OrtEpDevice, OrtErrorCode, OrtGraph, OrtHardwareDevice, OrtHardwareDeviceType,
    OrtKernelContext, OrtKeyValuePairs, OrtLogger, OrtLoggingLevel, OrtNode, OrtOpAttr, OrtOpAttrType,
    OrtSessionOptions, OrtStatus, OrtStatusPtr, OrtTensorTypeAndShapeInfo, OrtTypeInfo, OrtValue,
    OrtValueInfo,
};

pub use compute::{OrtNodeComputeInfo, OrtNodeFusionOptions};
pub use data_transfer::OrtDataTransferImpl;
pub use ep::OrtEp;
pub use ep_api::OrtEpApi;
pub use factory::OrtEpFactory;
pub use host::{Host, HostError, LoadError};
pub use opaque::{OrtEpGraphSupportInfo, OrtMemoryDevice, OrtNodeComputeContext, OrtSyncStream};

/// The version of the ABI we fill and call: 1.24, the first with virtual hardware devices.
pub const API_VERSION: u32 = 24;

/// The runtime's major version whose ABI this is.
pub const RUNTIME_MAJOR: u32 = 1;

/// A slot that we never fill: `None` is a null pointer.
pub type Unfilled = Option<unsafe extern "system" fn()>;

/// A slot that we never call.
pub type Uncalled = Option<unsafe extern "system" fn()>;
