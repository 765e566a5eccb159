//! One session's provider: claims, compiles, and keeps what its nodes share.

use std::ffi::c_char;
use std::sync::{Arc, Mutex, PoisonError};

use opencl_kernels::Error;
use opencl_kernels::ir;
use opencl_kernels::program::{CompileOptions, Program};
use opencl_kernels::runtime::DeviceContext;
use ort_ep_sys::{
    API_VERSION, Host, OrtEp, OrtEpGraphSupportInfo, OrtGraph, OrtNode, OrtNodeComputeInfo,
    OrtNodeFusionOptions, OrtStatusPtr,
};

use crate::capability::{Refused, claim};
use crate::compute::{Border, Compiled, FusedNode};
use crate::factory::Shared;
use crate::failure::{Failure, guard, guard_silent};
use crate::graph::{Constants, GraphView, Model, NodeView, Type, ValueIndex, ValueView};
use crate::log::Log;
use crate::names;
use crate::options::Options;

/// One session's provider.
#[repr(C)]
pub(crate) struct Ep {
    abi: OrtEp,
    host: Host,
    log: Log,
    options: Options,
    context: Arc<DeviceContext>,
    /// Constants copied for the last claim, until it is compiled.
    constants: Mutex<Constants>,
    /// The factory's memory must outlive this provider: a host that unregisters the library while the session lives
    /// releases the factory first, and then calls it to release us.
    _factory: Arc<Shared>,
}

impl Ep {
    /// A provider on a device.
    pub(crate) fn new(
        host: Host,
        log: Log,
        options: Options,
        context: Arc<DeviceContext>,
        factory: Arc<Shared>,
    ) -> Box<Self> {
        Box::new(Self {
            abi: OrtEp {
                GetName: Some(get_name),
                GetCapability: Some(get_capability),
                Compile: Some(compile),
                ReleaseNodeComputeInfos: Some(release_node_compute_infos),
                IsConcurrentRunSupported: Some(is_concurrent_run_supported),
                ..OrtEp::empty()
            },
            host,
            log,
            options,
            context,
            constants: Mutex::default(),
            _factory: factory,
        })
    }

    /// Gives the provider to the runtime, which gives it back to [`release`](Self::release).
    pub(crate) fn into_raw(self: Box<Self>) -> *mut OrtEp {
        Box::into_raw(self).cast()
    }

    /// Ends a provider.
    ///
    /// # Safety
    /// `ep` came from [`into_raw`](Self::into_raw) and is not used afterwards.
    pub(crate) unsafe fn release(ep: *mut OrtEp) {
        if !ep.is_null() {
            // SAFETY: the caller's promise.
            drop(unsafe { Box::from_raw(ep.cast::<Self>()) });
        }
    }

    fn constants(&self) -> std::sync::MutexGuard<'_, Constants> {
        self.constants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Safety
    /// `support` is the one of this call.
    unsafe fn claim(&self, graph: GraphView<'_>, support: *mut OrtEpGraphSupportInfo) -> Result<(), Failure> {
        if graph.is_body()? {
            // A body runs once per iteration on small tensors: crossing to the device and back costs more than it
            // gains, and its node of control flow stays with the host anyway.
            self.log.verbose(|| {
                format!(
                    "{}: the body of a control-flow node is left to the host",
                    names::PROVIDER_TEXT
                )
            });
            return Ok(());
        }
        let model = Model::copy(self.host, graph, &Constants::default())?;
        let claim = claim(&model, dry_run);
        let handles: Vec<*const OrtNode> = graph.nodes()?.into_iter().map(NodeView::handle).collect();
        let fusion = OrtNodeFusionOptions {
            ort_version_supported: API_VERSION,
            drop_constant_initializers: true,
        };
        for group in &claim.groups {
            let nodes: Vec<_> = group.iter().map(|&n| handles[n]).collect();
            // SAFETY: the nodes are this call's graph's; the runtime copies the list and the options.
            self.host.check(unsafe {
                (self.host.ep.EpGraphSupportInfo_AddNodesToFuse)(
                    support,
                    nodes.as_ptr(),
                    nodes.len(),
                    &raw const fusion,
                )
            })?;
        }
        self.log.info(|| {
            let claimed: usize = claim.groups.iter().map(Vec::len).sum();
            format!(
                "{}: claims {claimed} of {} nodes of '{}' in {} group(s)",
                names::PROVIDER_TEXT,
                model.nodes.len(),
                model.name,
                claim.groups.len()
            )
        });
        for (node, reason) in &claim.declined {
            let node = &model.nodes[*node];
            self.log.verbose(|| {
                format!(
                    "{}: leaves {} '{}' to the host: {reason}",
                    names::PROVIDER_TEXT,
                    node.operator,
                    node.name
                )
            });
        }
        *self.constants() = model.constants_of(claim.groups.iter().flatten().copied());
        Ok(())
    }

    /// Compiles one claimed group.
    ///
    /// # Safety
    /// Both are this call's.
    unsafe fn compile_group(
        &self,
        graph: *const OrtGraph,
        fused: *const OrtNode,
    ) -> Result<Box<FusedNode>, Failure> {
        // SAFETY: valid for this call.
        let (graph, fused) = unsafe { (GraphView::new(self.host, graph), NodeView::new(self.host, fused)) };
        let name = fused.name()?;
        let model = Model::copy(self.host, graph, &self.constants())?;
        let inputs = borders(&model, fused.inputs()?)?;
        let outputs = borders(&model, fused.outputs()?)?;
        let all: Vec<usize> = (0..model.nodes.len()).collect();
        let values = |borders: &[(ValueIndex, Border)]| borders.iter().map(|(v, _)| *v).collect::<Vec<_>>();
        let ir = model
            .to_ir(&all, &values(&inputs), &values(&outputs))
            .map_err(|(_, reason)| Failure::internal(format!("compiling '{name}': {reason}")))?;
        let program = Program::compile(ir, &CompileOptions::default())
            .map_err(|error| Failure::from(error).while_doing(&format!("compiling '{name}'")))?;
        let only = |all: Vec<(ValueIndex, Border)>| all.into_iter().map(|(_, border)| border).collect();
        let compiled = Compiled {
            name,
            program: Arc::new(program),
            inputs: only(inputs),
            outputs: only(outputs),
        };
        Ok(FusedNode::new(
            self.host,
            self.log,
            &self.options,
            Arc::clone(&self.context),
            compiled,
        ))
    }
}

/// Compiles a group and throws the result away.
fn dry_run(graph: ir::Graph) -> Result<(), Refused> {
    let refused = |node, reason| Err(Refused { node, reason });
    match Program::compile(graph, &CompileOptions::default()) {
        Ok(_) => Ok(()),
        Err(Error::Unsupported(unsupported)) => refused(Some(unsupported.node), unsupported.reason),
        // Shapes that are static and do not fit: whatever the runtime says of them, it says it without us.
        Err(Error::Invalid { node, reason, .. }) => refused(Some(node), reason),
        Err(error) => refused(None, error.to_string()),
    }
}

/// A fused node's inputs or outputs. Constants that the runtime passes all the same are left out: we have our own copy.
fn borders(model: &Model, views: Vec<Option<ValueView<'_>>>) -> Result<Vec<(ValueIndex, Border)>, Failure> {
    let mut found = Vec::with_capacity(views.len());
    for (index, view) in views.into_iter().enumerate() {
        let Some(view) = view else { continue };
        let name = view.name()?;
        let value = model
            .find(&name)
            .ok_or_else(|| Failure::internal(format!("no node of the group touches its border '{name}'")))?;
        if model.values[value].constant.is_some() {
            continue;
        }
        match &model.values[value].ty {
            Type::Tensor(dtype, _) => {
                let dtype = *dtype;
                found.push((value, Border { name, dtype, index }));
            }
            Type::Other(what) => return Err(Failure::internal(format!("'{name}' is {what}"))),
        }
    }
    Ok(found)
}

unsafe extern "system" fn get_name(_this: *const OrtEp) -> *const c_char {
    names::PROVIDER.as_ptr()
}

unsafe extern "system" fn get_capability(
    this: *mut OrtEp,
    graph: *const OrtGraph,
    support: *mut OrtEpGraphSupportInfo,
) -> OrtStatusPtr {
    // SAFETY: the runtime passes what `into_raw` gave.
    let ep = unsafe { &*this.cast::<Ep>() };
    guard(ep.host, "claiming nodes", || {
        // SAFETY: both are valid for this call.
        unsafe { ep.claim(GraphView::new(ep.host, graph), support) }
    })
}

unsafe extern "system" fn compile(
    this: *mut OrtEp,
    graphs: *mut *const OrtGraph,
    fused_nodes: *mut *const OrtNode,
    count: usize,
    infos: *mut *mut OrtNodeComputeInfo,
    _context_nodes: *mut *mut OrtNode,
) -> OrtStatusPtr {
    // SAFETY: the runtime passes what `into_raw` gave.
    let ep = unsafe { &*this.cast::<Ep>() };
    guard(ep.host, "compiling", || {
        let mut compiled = Vec::with_capacity(count);
        for i in 0..count {
            // SAFETY: the arrays have `count` entries, valid for this call.
            compiled.push(unsafe { ep.compile_group(*graphs.add(i), *fused_nodes.add(i)) }?);
        }
        // Only now that nothing can fail: an error must leave no half-filled array behind.
        for (i, node) in compiled.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { *infos.add(i) = node.into_raw() };
        }
        ep.constants().clear();
        Ok(())
    })
}

unsafe extern "system" fn release_node_compute_infos(
    _this: *mut OrtEp,
    infos: *mut *mut OrtNodeComputeInfo,
    count: usize,
) {
    guard_silent((), || {
        for i in 0..count {
            // SAFETY: the runtime gives back what `compile` wrote, once.
            unsafe { FusedNode::release(*infos.add(i)) };
        }
    });
}

unsafe extern "system" fn is_concurrent_run_supported(
    _this: *mut OrtEp,
    supported: *mut bool,
) -> OrtStatusPtr {
    // Each fused node locks its own executor.
    // SAFETY: the runtime passes a place for the answer.
    unsafe { *supported = true };
    OrtStatusPtr::default()
}
