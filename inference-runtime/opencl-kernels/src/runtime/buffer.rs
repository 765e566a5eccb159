//! Device memory with an owner.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use opencl3::memory as cl;
use opencl3::types::cl_buffer_region;

use super::call::{check, released};
use super::{DeviceContext, DeviceMemory};
use crate::error::Result;

/// A buffer, or a part of one. Released on drop.
#[derive(Debug)]
pub(super) struct Buffer {
    handle: *mut c_void,
    bytes: usize,
    name: &'static str,
    /// Whom to give the bytes back; a sub-buffer owns none.
    memory: Option<Arc<DeviceMemory>>,
}

// SAFETY: OpenCL's calls on memory objects are thread-safe; the handle is only released once, on drop.
unsafe impl Send for Buffer {}
// SAFETY: as above; what is in the buffer is ordered by queues, not by this handle.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Allocates `bytes` (at least 1) of uninitialised device memory; `name` is for messages.
    pub(super) fn new(context: &DeviceContext, name: &'static str, bytes: usize) -> Result<Self> {
        let bytes = bytes.max(1);
        let memory = context.memory();
        memory.reserve(name, bytes as u64)?;
        // SAFETY: the context is alive, and without a host pointer there is no memory of ours involved.
        let created =
            unsafe { cl::create_buffer(context.handle(), cl::CL_MEM_READ_WRITE, bytes, ptr::null_mut()) };
        let checked = check("clCreateBuffer", || format!("{name} ({bytes} bytes)"), created);
        match checked {
            Ok(handle) => Ok(Self {
                handle,
                bytes,
                name,
                memory: Some(Arc::clone(memory)),
            }),
            Err(error) => {
                memory.give_back(bytes as u64);
                Err(error)
            }
        }
    }

    /// A part of this buffer. OpenCL keeps the whole alive as long as a part lives.
    pub(super) fn part(&self, offset: usize, bytes: usize) -> Result<Self> {
        let region = cl_buffer_region {
            origin: offset,
            size: bytes,
        };
        // SAFETY: `self` is alive and `region` is what CL_BUFFER_CREATE_TYPE_REGION wants; OpenCL checks its bounds
        // and alignment.
        let created = unsafe {
            cl::create_sub_buffer(
                self.handle,
                cl::CL_MEM_READ_WRITE,
                cl::CL_BUFFER_CREATE_TYPE_REGION,
                (&raw const region).cast(),
            )
        };
        let object = || {
            format!(
                "{} bytes at {offset} of {} ({} bytes)",
                bytes, self.name, self.bytes
            )
        };
        Ok(Self {
            handle: check("clCreateSubBuffer", object, created)?,
            bytes,
            name: self.name,
            memory: None,
        })
    }

    pub(super) fn handle(&self) -> *mut c_void {
        self.handle
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: we created the object and release it once; OpenCL waits for commands that still use it.
        released("clReleaseMemObject", unsafe {
            cl::release_mem_object(self.handle)
        });
        if let Some(memory) = &self.memory {
            memory.give_back(self.bytes as u64);
        }
    }
}
