//! An in-order command queue.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use opencl3::command_queue as cl;
use opencl3::event as cl_event;
use opencl3::types::{CL_NON_BLOCKING, CL_TRUE};

use super::call::{check, released};
use super::{Buffer, DeviceContext, Kernel};
use crate::error::Result;

/// An in-order queue: commands run one after the other, so no events are needed between them.
///
/// Whoever enqueues a non-blocking write keeps the bytes alive until [`finish`](Queue::finish) or a blocking read has
/// returned; the type system cannot say so, therefore those calls are `unsafe`.
#[derive(Debug)]
pub(super) struct Queue {
    handle: *mut c_void,
    context: Arc<DeviceContext>,
}

// SAFETY: OpenCL's calls on queues are thread-safe; the handle is only released once, on drop.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

/// A command's event, released on drop.
#[derive(Debug)]
pub(super) struct Event(*mut c_void);

/// When a command was where, in nanoseconds of the device's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// The host enqueued it.
    pub(super) queued: u64,
    /// The device began.
    pub(super) start: u64,
    /// The device was done.
    pub(super) end: u64,
}

impl Event {
    /// A command's times on a profiling queue, once it is complete.
    pub(super) fn times(&self) -> Result<Times> {
        let read = |what| {
            let info = cl_event::get_event_profiling_info(self.0, what);
            check("clGetEventProfilingInfo", || "a command".to_owned(), info).map(u64::from)
        };
        Ok(Times {
            queued: read(cl_event::CL_PROFILING_COMMAND_QUEUED)?,
            start: read(cl_event::CL_PROFILING_COMMAND_START)?,
            end: read(cl_event::CL_PROFILING_COMMAND_END)?,
        })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the enqueue call gave us this reference, and we release it once.
        released("clReleaseEvent", unsafe { cl_event::release_event(self.0) });
    }
}

impl Queue {
    /// A queue on the context's device.
    pub(super) fn new(context: Arc<DeviceContext>, profiling: bool) -> Result<Self> {
        let properties = if profiling {
            cl::CL_QUEUE_PROFILING_ENABLE
        } else {
            0
        };
        // SAFETY: context and device belong together and are alive.
        let created =
            unsafe { cl::create_command_queue(context.handle(), context.device().id(), properties) };
        let handle = check("clCreateCommandQueue", || context.device().to_string(), created)?;
        Ok(Self { handle, context })
    }

    pub(super) fn context(&self) -> &Arc<DeviceContext> {
        &self.context
    }

    /// Enqueues a write without waiting for it.
    ///
    /// # Safety
    /// `bytes` must stay alive and unchanged until a blocking call on this queue has returned.
    pub(super) unsafe fn write_later(&self, buffer: &Buffer, bytes: &[u8]) -> Result<()> {
        // SAFETY: the caller keeps `bytes` alive; OpenCL checks the size against the buffer.
        unsafe { self.write_with(buffer, bytes, CL_NON_BLOCKING) }
    }

    /// Writes and waits.
    pub(super) fn write(&self, buffer: &Buffer, bytes: &[u8]) -> Result<()> {
        // SAFETY: a blocking write has copied `bytes` when it returns.
        unsafe { self.write_with(buffer, bytes, CL_TRUE) }
    }

    unsafe fn write_with(&self, buffer: &Buffer, bytes: &[u8], blocking: u32) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: see the callers; all handles are alive.
        let event = unsafe {
            cl::enqueue_write_buffer(
                self.handle,
                buffer.handle(),
                blocking,
                0,
                bytes.len(),
                bytes.as_ptr().cast(),
                0,
                ptr::null(),
            )
        };
        let object = || format!("{} bytes into {}", bytes.len(), buffer.name());
        check("clEnqueueWriteBuffer", object, event).map(|event| drop(Event(event)))
    }

    /// Reads the buffer's beginning and waits: everything enqueued before is complete afterwards.
    pub(super) fn read(&self, buffer: &Buffer, bytes: &mut [u8]) -> Result<()> {
        if bytes.is_empty() {
            return self.finish();
        }
        // SAFETY: a blocking read is done with `bytes` when it returns; OpenCL checks the size against the buffer.
        let event = unsafe {
            cl::enqueue_read_buffer(
                self.handle,
                buffer.handle(),
                CL_TRUE,
                0,
                bytes.len(),
                bytes.as_mut_ptr().cast(),
                0,
                ptr::null(),
            )
        };
        let object = || format!("{} bytes from {}", bytes.len(), buffer.name());
        check("clEnqueueReadBuffer", object, event).map(|event| drop(Event(event)))
    }

    /// Enqueues a copy between buffers.
    pub(super) fn copy(&self, from: (&Buffer, usize), to: (&Buffer, usize), bytes: usize) -> Result<Event> {
        // SAFETY: both buffers are alive; OpenCL checks ranges and overlap.
        let event = unsafe {
            cl::enqueue_copy_buffer(
                self.handle,
                from.0.handle(),
                to.0.handle(),
                from.1,
                to.1,
                bytes,
                0,
                ptr::null(),
            )
        };
        let object = || format!("{bytes} bytes from {} to {}", from.0.name(), to.0.name());
        check("clEnqueueCopyBuffer", object, event).map(Event)
    }

    /// Enqueues a kernel whose arguments are all set.
    pub(super) fn launch(&self, kernel: &Kernel) -> Result<Event> {
        let range = kernel.range();
        // SAFETY: `range` has `dimensions` entries in both arrays, and `Kernel` set every argument to an object that
        // it keeps alive.
        let event = unsafe {
            cl::enqueue_nd_range_kernel(
                self.handle,
                kernel.handle(),
                range.dimensions,
                ptr::null(),
                range.global.as_ptr(),
                range.local.as_ptr(),
                0,
                ptr::null(),
            )
        };
        check("clEnqueueNDRangeKernel", || kernel.to_string(), event).map(Event)
    }

    /// Hands everything enqueued to the device without waiting for it.
    pub(super) fn flush(&self) -> Result<()> {
        check(
            "clFlush",
            || self.context.device().to_string(),
            cl::flush(self.handle),
        )
    }

    /// Waits until everything enqueued is complete.
    pub(super) fn finish(&self) -> Result<()> {
        check(
            "clFinish",
            || self.context.device().to_string(),
            cl::finish(self.handle),
        )
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Memory that commands still use must not go before they are done.
        if let Err(error) = self.finish() {
            tracing::warn!(%error, "a queue did not finish before it was released");
        }
        // SAFETY: we created the queue and release it once.
        released("clReleaseCommandQueue", unsafe {
            cl::release_command_queue(self.handle)
        });
    }
}
