//! Built programs: one per source and options on a device, from memory, from disk or from source.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use opencl3::program as cl;

use super::call::{check, released};
use super::{DeviceContext, DiskCache};
use crate::error::{Error, Result};
use crate::plan::Source;

/// Put in front of every source.
const PRELUDE: &str = include_str!("prelude.cl");

/// Held by whichever thread builds, for whatever device: drivers' compilers are not worth trusting with several threads.
static COMPILER: Mutex<()> = Mutex::new(());

/// Given to every build, before the launch's own options.
const STANDARD: &str = "-cl-std=CL1.2";

/// A program built for one device. Released on drop.
#[derive(Debug)]
pub(super) struct BuiltProgram {
    handle: *mut c_void,
    name: &'static str,
}

// SAFETY: OpenCL's calls on programs are thread-safe (building happens before the value is shared).
unsafe impl Send for BuiltProgram {}
// SAFETY: as above.
unsafe impl Sync for BuiltProgram {}

impl BuiltProgram {
    pub(super) fn handle(&self) -> *mut c_void {
        self.handle
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }
}

impl Drop for BuiltProgram {
    fn drop(&mut self) {
        // SAFETY: we created the program and release it once; kernels hold references of their own.
        released("clReleaseProgram", unsafe { cl::release_program(self.handle) });
    }
}

/// The programs built for one device.
#[derive(Debug)]
pub struct Programs {
    disk: DiskCache,
    /// Folder with `.cl` files that replace the embedded ones, for work on kernels.
    overrides: Option<PathBuf>,
    /// Held while building, so that two executors that want the same program do not both build it.
    built: Mutex<HashMap<(Source, String), Arc<BuiltProgram>>>,
}

impl Programs {
    pub(super) fn new(disk: DiskCache) -> Self {
        Self {
            disk,
            overrides: std::env::var_os("AFTERGLOW_KERNELS").map(PathBuf::from),
            built: Mutex::default(),
        }
    }

    /// Number of programs built or loaded so far.
    pub fn count(&self) -> usize {
        self.built.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn get(
        &self,
        context: &DeviceContext,
        source: Source,
        options: &[String],
    ) -> Result<Arc<BuiltProgram>> {
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (source, options.join(" "));
        if let Some(program) = built.get(&key) {
            return Ok(Arc::clone(program));
        }
        let program = Arc::new(self.build(context, source, &key.1)?);
        built.insert(key, Arc::clone(&program));
        Ok(program)
    }

    fn build(&self, context: &DeviceContext, source: Source, options: &str) -> Result<BuiltProgram> {
        let text = format!("{PRELUDE}\n#line 1 \"{}\"\n{}", source.name, self.text(source));
        let options = format!("{STANDARD} {options}");
        let key = DiskCache::key(&text, &options, context.device().info());
        if let Some(binary) = self.disk.load(&key) {
            match from_binary(context, source.name, &options, &binary) {
                Ok(program) => return Ok(program),
                // Written by another driver build, or cut short: building again is always right.
                Err(error) => tracing::info!(program = source.name, %error, "cached binary does not load"),
            }
        }
        let started = std::time::Instant::now();
        let program = from_source(context, source.name, &text, &options)?;
        tracing::debug!(program = source.name, options, elapsed = ?started.elapsed(), "built");
        match binary_of(&program) {
            Ok(binary) => self.disk.store(&key, &binary),
            Err(error) => tracing::debug!(program = source.name, %error, "no binary to cache"),
        }
        Ok(program)
    }

    fn text(&self, source: Source) -> String {
        let path = self.overrides.as_ref().map(|folder| folder.join(source.name));
        match path.map(|path| (std::fs::read_to_string(&path), path)) {
            Some((Ok(text), path)) => {
                tracing::warn!(path = %path.display(), "kernel source replaced");
                text
            }
            _ => source.text.to_owned(),
        }
    }
}

/// Builds this text, behind the prelude, as the program of that name.
pub(super) fn compile(
    context: &DeviceContext,
    name: &'static str,
    text: &str,
    options: &[String],
) -> Result<BuiltProgram> {
    let text = format!("{PRELUDE}\n#line 1 \"{name}\"\n{text}");
    from_source(context, name, &text, &format!("{STANDARD} {}", options.join(" ")))
}

fn from_source(
    context: &DeviceContext,
    name: &'static str,
    text: &str,
    options: &str,
) -> Result<BuiltProgram> {
    let created = cl::create_program_with_source(context.handle(), &[text]);
    let handle = check("clCreateProgramWithSource", || name.to_owned(), created)?;
    let program = BuiltProgram { handle, name };
    build(context, &program, options)?;
    Ok(program)
}

fn from_binary(
    context: &DeviceContext,
    name: &'static str,
    options: &str,
    binary: &[u8],
) -> Result<BuiltProgram> {
    // SAFETY: the device belongs to the context; the driver validates the binary and copies it. The binary comes
    // from our cache folder and carries a checksum: it is as trustworthy as the user's own files.
    let created =
        unsafe { cl::create_program_with_binary(context.handle(), &[context.device().id()], &[binary]) };
    let handle = check("clCreateProgramWithBinary", || name.to_owned(), created)?;
    let program = BuiltProgram { handle, name };
    build(context, &program, options)?;
    Ok(program)
}

fn build(context: &DeviceContext, program: &BuiltProgram, options: &str) -> Result<()> {
    let device = context.device().id();
    let failed = |log: String| Error::Build {
        program: program.name.to_owned(),
        device: context.device().to_string(),
        log,
    };
    let _alone = COMPILER.lock().unwrap_or_else(PoisonError::into_inner);
    let options = CString::new(options).map_err(|_| failed("build options hold a NUL".to_owned()))?;
    let built = cl::build_program(program.handle, &[device], &options, None, std::ptr::null_mut());
    built.map_err(|code| {
        let log = cl::get_program_build_data(program.handle, device, cl::CL_PROGRAM_BUILD_LOG)
            .map(|log| {
                String::from_utf8_lossy(&log)
                    .trim_end_matches('\0')
                    .trim()
                    .to_owned()
            })
            .unwrap_or_default();
        failed(format!(
            "{} ({code})\n{log}",
            opencl3::error_codes::error_text(code)
        ))
    })
}

fn binary_of(program: &BuiltProgram) -> Result<Vec<u8>> {
    let info = cl::get_program_info(program.handle, cl::CL_PROGRAM_BINARIES);
    let binaries: Vec<Vec<u8>> = check("clGetProgramInfo", || program.name.to_owned(), info)?.into();
    let binary = binaries.into_iter().next().filter(|binary| !binary.is_empty());
    check("clGetProgramInfo", || program.name.to_owned(), binary.ok_or(0))
}
