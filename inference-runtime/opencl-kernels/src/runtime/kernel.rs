//! A kernel with all its arguments set.

use std::ffi::{CString, c_void};
use std::fmt;
use std::ptr;
use std::sync::Arc;

use opencl3::kernel as cl;

use super::call::{check, released};
use super::{Buffer, BuiltProgram};
use crate::error::Result;
use crate::plan::{Arg, Launch};

/// A kernel's extents, ready for the call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) dimensions: u32,
    pub(super) global: [usize; 3],
    pub(super) local: [usize; 3],
}

impl Range {
    fn of(launch: &Launch) -> Self {
        let local = launch.local.map(|l| l.max(1));
        let global = std::array::from_fn(|i| launch.global[i].next_multiple_of(local[i]));
        let dimensions = (1..=3).rev().find(|&d| global[d - 1] > 1 || d == 1).unwrap_or(1);
        Self {
            dimensions: dimensions as u32,
            global,
            local,
        }
    }
}

/// A kernel object of its own (OpenCL's kernels carry their arguments, so none is shared) with all arguments set.
pub(super) struct Kernel {
    handle: *mut c_void,
    range: Range,
    name: &'static str,
    /// Keeps the code alive.
    program: Arc<BuiltProgram>,
}

// SAFETY: a cl_kernel may move between threads; setting arguments is not thread-safe, but happens only in `new`.
unsafe impl Send for Kernel {}

impl Kernel {
    /// Makes the kernel and sets its arguments. `buffer` gives the memory of a storage; it must outlive the kernel's
    /// launches (OpenCL does not count references from arguments).
    pub(super) fn new<'b>(
        program: &Arc<BuiltProgram>,
        launch: &Launch,
        buffer: impl Fn(crate::plan::StorageId) -> &'b Buffer,
    ) -> Result<Self> {
        let name = CString::new(launch.kernel).unwrap_or_default();
        let object = || format!("{} in {}", launch.kernel, launch.source.name);
        let handle = check(
            "clCreateKernel",
            object,
            cl::create_kernel(program.handle(), &name),
        )?;
        let kernel = Self {
            handle,
            range: Range::of(launch),
            name: launch.kernel,
            program: Arc::clone(program),
        };
        for (index, arg) in launch.args.iter().enumerate() {
            match arg {
                Arg::Buffer(id) => kernel.set(index, &buffer(*id).handle())?,
                Arg::I32(value) => kernel.set(index, value)?,
                Arg::U32(value) => kernel.set(index, value)?,
                Arg::I64(value) => kernel.set(index, value)?,
                Arg::F32(value) => kernel.set(index, value)?,
                Arg::Int4(value) => kernel.set(index, value)?,
                Arg::Int8(value) => kernel.set(index, value)?,
                // SAFETY: a null pointer with a size asks for that much local memory.
                Arg::Local(bytes) => unsafe { kernel.set_raw(index, *bytes, ptr::null())? },
            }
        }
        Ok(kernel)
    }

    fn set<T>(&self, index: usize, value: &T) -> Result<()> {
        // SAFETY: OpenCL copies `size_of::<T>()` bytes during the call.
        unsafe { self.set_raw(index, size_of::<T>(), ptr::from_ref(value).cast()) }
    }

    unsafe fn set_raw(&self, index: usize, bytes: usize, value: *const c_void) -> Result<()> {
        // SAFETY: the caller vouches for `value`; OpenCL checks index and size against the kernel's signature.
        let set = unsafe { cl::set_kernel_arg(self.handle, index as u32, bytes, value) };
        check("clSetKernelArg", || format!("argument {index} of {self}"), set)
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn handle(&self) -> *mut c_void {
        self.handle
    }

    pub(super) fn range(&self) -> &Range {
        &self.range
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "kernel {} of {} (global {:?}, local {:?})",
            self.name,
            self.program.name(),
            self.range.global,
            self.range.local
        )
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: we created the kernel and release it once.
        released("clReleaseKernel", unsafe { cl::release_kernel(self.handle) });
    }
}
