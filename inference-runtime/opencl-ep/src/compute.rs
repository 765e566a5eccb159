//! A compiled group of nodes: the runtime calls it once per run.
//!
//! Tensors at its borders lie in host memory; the executor copies them to and from the device.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use opencl_kernels::Error;
use opencl_kernels::program::Program;
use opencl_kernels::runtime::{DeviceContext, Executor, ExecutorOptions, InputView, OutputSink};
use opencl_kernels::tensor::{DType, TensorType};
use ort_ep_sys::{
    API_VERSION, Host, OrtKernelContext, OrtNodeComputeContext, OrtNodeComputeInfo, OrtStatusPtr,
};

use crate::failure::{Failure, guard, guard_silent};
use crate::graph::TensorView;
use crate::log::Log;
use crate::observe;
use crate::options::Options;

/// A value at the border of a compiled group.
#[derive(Debug, Clone)]
pub(crate) struct Border {
    /// The graph's name for it.
    pub(crate) name: String,
    /// Its element type.
    pub(crate) dtype: DType,
    /// Its place among the fused node's inputs or outputs.
    pub(crate) index: usize,
}

/// One compiled group.
#[repr(C)]
pub(crate) struct FusedNode {
    abi: OrtNodeComputeInfo,
    host: Host,
    log: Log,
    name: String,
    context: Arc<DeviceContext>,
    program: Arc<Program>,
    options: Options,
    inputs: Vec<Border>,
    outputs: Vec<Border>,
}

/// A group as the compiler left it: its program, and where the program's inputs and outputs lie in the fused node's.
pub(crate) struct Compiled {
    pub(crate) name: String,
    pub(crate) program: Arc<Program>,
    pub(crate) inputs: Vec<Border>,
    pub(crate) outputs: Vec<Border>,
}

/// What lives from session creation to session end: one executor, used by one run at a time.
struct State {
    executor: Mutex<Executor>,
}

impl FusedNode {
    /// A compiled group on a device.
    pub(crate) fn new(
        host: Host,
        log: Log,
        options: &Options,
        context: Arc<DeviceContext>,
        compiled: Compiled,
    ) -> Box<Self> {
        Box::new(Self {
            abi: OrtNodeComputeInfo {
                ort_version_supported: API_VERSION,
                CreateState: Some(create_state),
                Compute: Some(compute),
                ReleaseState: Some(release_state),
            },
            host,
            log,
            name: compiled.name,
            context,
            program: compiled.program,
            options: options.clone(),
            inputs: compiled.inputs,
            outputs: compiled.outputs,
        })
    }

    /// Gives the node to the runtime, which gives it back to [`release`](Self::release).
    pub(crate) fn into_raw(self: Box<Self>) -> *mut OrtNodeComputeInfo {
        Box::into_raw(self).cast()
    }

    /// Ends a node.
    ///
    /// # Safety
    /// `info` came from [`into_raw`](Self::into_raw) and is not used afterwards.
    pub(crate) unsafe fn release(info: *mut OrtNodeComputeInfo) {
        if !info.is_null() {
            // SAFETY: the caller's promise.
            drop(unsafe { Box::from_raw(info.cast::<Self>()) });
        }
    }

    fn new_executor(&self) -> Result<Executor, Failure> {
        let options = ExecutorOptions {
            plans: self.options.plan_cache,
        };
        Ok(Executor::with_options(
            Arc::clone(&self.context),
            Arc::clone(&self.program),
            options,
        )?)
    }

    /// The executor, alone. A run that panicked may have left it half changed: it is made anew.
    fn executor<'s>(&self, state: &'s State) -> Result<MutexGuard<'s, Executor>, Failure> {
        match state.executor.lock() {
            Ok(executor) => Ok(executor),
            Err(poisoned) => {
                let mut executor = poisoned.into_inner();
                *executor = self.new_executor()?;
                state.executor.clear_poison();
                Ok(executor)
            }
        }
    }

    /// # Safety
    /// `context` is the one of this run.
    unsafe fn run(&self, state: &State, context: *mut OrtKernelContext) -> Result<(), Failure> {
        let mut types = Vec::with_capacity(self.inputs.len());
        for border in &self.inputs {
            // SAFETY: `context` is this run's.
            types.push(unsafe { self.input(border, context) }?);
        }
        let views: Vec<InputView<'_>> = types
            .iter()
            .map(|(ty, bytes)| InputView {
                shape: &ty.shape,
                bytes,
            })
            .collect();
        let mut sink = Outputs {
            host: self.host,
            context,
            borders: &self.outputs,
        };
        let mut executor = self.executor(state)?;
        match observe::wanted() {
            None => executor.run(&views, &mut sink)?,
            Some(wanted) => {
                let began = SystemTime::now();
                let observed = executor.run_observed(&views, &mut sink)?;
                wanted.tell(&self.name, began, &observed);
            }
        }
        if self.options.profile {
            self.log_profile(&mut executor, &views)?;
        }
        Ok(())
    }

    /// Repeats the run under the device's clock and logs what each step took.
    fn log_profile(&self, executor: &mut Executor, inputs: &[InputView<'_>]) -> Result<(), Failure> {
        for step in executor.profile(inputs)? {
            self.log.info(|| {
                let microseconds = step.nanoseconds as f64 / 1e3;
                format!(
                    "{}: {microseconds:.1} µs {} of {} '{}'",
                    self.name, step.kernel, step.op, step.node
                )
            });
        }
        Ok(())
    }

    /// # Safety
    /// `context` is the one of this run, whose inputs nobody writes to.
    unsafe fn input<'r>(
        &self,
        border: &Border,
        context: *const OrtKernelContext,
    ) -> Result<(TensorType, &'r [u8]), Failure> {
        let Border { name, dtype, index } = border;
        let mut value = ptr::null();
        // SAFETY: the caller's promise.
        self.host
            .check(unsafe { (self.host.api.KernelContext_GetInput)(context, *index, &raw mut value) })?;
        // SAFETY: inputs live and stay as they are until the run ends.
        let tensor = unsafe { TensorView::new(self.host, value) }
            .ok_or_else(|| Failure::invalid(format!("input '{name}' is missing")))?;
        let ty = tensor
            .ty()?
            .filter(|ty| ty.dtype == *dtype)
            .ok_or_else(|| Failure::invalid(format!("input '{name}' is no tensor of {dtype}")))?;
        let bytes = tensor.bytes(&ty)?;
        Ok((ty, bytes))
    }
}

/// Where the executor asks for memory once it knows an output's shape.
struct Outputs<'r> {
    host: Host,
    context: *mut OrtKernelContext,
    borders: &'r [Border],
}

impl OutputSink for Outputs<'_> {
    fn output(&mut self, index: usize, ty: &TensorType) -> Result<&mut [u8], Error> {
        let border = &self.borders[index];
        let shape = &ty.shape;
        let failed = |reason: String| Error::Malformed {
            graph: border.name.clone(),
            reason,
        };
        if ty.dtype != border.dtype {
            return Err(failed(format!("computed as {ty}, declared as {}", border.dtype)));
        }
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let mut value = ptr::null_mut();
        // SAFETY: the context is this run's; the runtime copies the dimensions.
        let status = unsafe {
            (self.host.api.KernelContext_GetOutput)(
                self.context,
                border.index,
                dims.as_ptr(),
                dims.len(),
                &raw mut value,
            )
        };
        self.host.check(status).map_err(|e| failed(e.to_string()))?;
        let length = ty.bytes();
        if value.is_null() || length == 0 {
            return Ok(&mut []);
        }
        let mut data: *mut c_void = ptr::null_mut();
        // SAFETY: the output is this run's.
        let status = unsafe { (self.host.api.GetTensorMutableData)(value, &raw mut data) };
        self.host.check(status).map_err(|e| failed(e.to_string()))?;
        if data.is_null() {
            return Err(failed(format!("the runtime gave no memory for {length} bytes")));
        }
        // SAFETY: the runtime has made a dense tensor of this type and shape, and the run is its only writer.
        Ok(unsafe { std::slice::from_raw_parts_mut(data.cast(), length) })
    }
}

unsafe extern "system" fn create_state(
    this: *mut OrtNodeComputeInfo,
    _context: *mut OrtNodeComputeContext,
    state: *mut *mut c_void,
) -> OrtStatusPtr {
    // SAFETY: the runtime passes what `into_raw` gave.
    let node = unsafe { &*this.cast::<FusedNode>() };
    guard(
        node.host,
        &format!("creating the state of '{}'", node.name),
        || {
            let made = Box::new(State {
                executor: Mutex::new(node.new_executor()?),
            });
            // SAFETY: the runtime passes a place for the state.
            unsafe { *state = Box::into_raw(made).cast() };
            Ok(())
        },
    )
}

unsafe extern "system" fn compute(
    this: *mut OrtNodeComputeInfo,
    state: *mut c_void,
    context: *mut OrtKernelContext,
) -> OrtStatusPtr {
    // SAFETY: the runtime passes what `into_raw` and `create_state` gave.
    let (node, state) = unsafe { (&*this.cast::<FusedNode>(), &*state.cast::<State>()) };
    guard(node.host, &node.name, || {
        // SAFETY: the context is this run's.
        unsafe { node.run(state, context) }
    })
}

unsafe extern "system" fn release_state(_this: *mut OrtNodeComputeInfo, state: *mut c_void) {
    guard_silent((), || {
        if !state.is_null() {
            // SAFETY: the runtime gives back what `create_state` made, once.
            drop(unsafe { Box::from_raw(state.cast::<State>()) });
        }
    });
}
