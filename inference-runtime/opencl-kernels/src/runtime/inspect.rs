//! What a driver makes of a single kernel, found by building it and running nothing.
//!
//! Drivers report on whole programs; a kernel that is built alone can be told from its neighbours.

use std::ffi::CString;
use std::sync::Arc;

use opencl3::kernel as cl;

use super::DeviceContext;
use super::call::{check, released};
use crate::error::{Error, Result};
use crate::plan::Launch;

/// Memory that a kernel takes besides its arguments, as its driver reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelMemory {
    /// `CL_KERNEL_PRIVATE_MEM_SIZE`: bytes per work-item that found no place in registers.
    pub private: u64,
    /// `CL_KERNEL_LOCAL_MEM_SIZE`: bytes per work-group declared in the kernel; arguments add to it.
    pub local: u64,
}

/// Builds a launch's kernel without the other kernels of its file, never from a cache.
///
/// # Errors
/// If the kernel is not in its file, or does not build.
pub fn build_alone(context: &Arc<DeviceContext>, launch: &Launch) -> Result<KernelMemory> {
    let name = launch.source.name;
    let text = alone(launch.source.text, launch.kernel).ok_or_else(|| Error::Build {
        program: name.to_owned(),
        device: context.device().to_string(),
        log: format!("there is no kernel '{}' in this file", launch.kernel),
    })?;
    let program = super::programs::compile(context, name, &text, &launch.options)?;
    let kernel_name = CString::new(launch.kernel).unwrap_or_default();
    let object = || format!("{} in {name}", launch.kernel);
    let created = cl::create_kernel(program.handle(), &kernel_name);
    let kernel = check("clCreateKernel", object, created)?;
    let bytes = |parameter| {
        let asked = cl::get_kernel_work_group_info(kernel, context.device().id(), parameter);
        check("clGetKernelWorkGroupInfo", object, asked).map(u64::from)
    };
    let memory = bytes(cl::CL_KERNEL_PRIVATE_MEM_SIZE).and_then(|private| {
        let local = bytes(cl::CL_KERNEL_LOCAL_MEM_SIZE)?;
        Ok(KernelMemory { private, local })
    });
    // SAFETY: we created the kernel and release it once.
    released("clReleaseKernel", unsafe { cl::release_kernel(kernel) });
    memory
}

/// The text without the kernels of other names; `None` if the named one is not there.
///
/// Relies on how our files are written: a kernel starts with a line that says `__kernel` and ends with the next line
/// that is a closing brace alone.
fn alone(text: &str, kernel: &str) -> Option<String> {
    let mut kept = String::with_capacity(text.len());
    let mut found = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut function = format!("{line}\n");
        if line.contains("__kernel") && !line.trim_start().starts_with("//") {
            for line in lines.by_ref() {
                function.push_str(line);
                function.push('\n');
                if line == "}" {
                    break;
                }
            }
            let signature = function.split('{').next().unwrap_or_default();
            if !signature.contains(&format!(" {kernel}(")) {
                continue;
            }
            found = true;
        }
        kept.push_str(&function);
    }
    found.then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::alone;

    const TEXT: &str = "inline int one() {\n    return 1;\n}\n\
        __kernel void a(int x) {\n    if (x) {\n    }\n}\n\
        __attribute__((reqd_work_group_size(64, 1, 1))) __kernel void ab(\n    int x) {\n}\nint two;\n";

    #[test]
    fn other_kernels_are_left_out_and_everything_else_stays() {
        let a = alone(TEXT, "a").unwrap();
        assert!(
            a.contains("void a(") && a.contains("one()") && a.contains("int two;"),
            "{a}"
        );
        assert!(!a.contains("ab("), "{a}");
        let ab = alone(TEXT, "ab").unwrap();
        assert!(ab.contains("void ab(") && !ab.contains("void a("), "{ab}");
        assert_eq!(alone(TEXT, "b"), None);
    }
}
