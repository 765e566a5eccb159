//! Read access to the runtime's graphs: thin, borrowed, no decisions.
//!
//! Everything here is valid only during the callback that was given the graph; the lifetime `'a` stands for that
//! call.

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;
use std::ptr;

use ort_ep_sys::{
    Host, HostError, OrtGraph, OrtNode, OrtOpAttr, OrtStatusPtr, OrtTypeInfo, OrtValue, OrtValueInfo,
};

use super::tensor::{TensorView, Type};

/// A graph.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GraphView<'a> {
    host: Host,
    graph: *const OrtGraph,
    call: PhantomData<&'a OrtGraph>,
}

/// A node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeView<'a> {
    host: Host,
    node: *const OrtNode,
    call: PhantomData<&'a OrtNode>,
}

/// A value: what is known of it, not its elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ValueView<'a> {
    host: Host,
    info: *const OrtValueInfo,
    call: PhantomData<&'a OrtValueInfo>,
}

/// How the runtime counts and lists the parts of one of its objects.
type Count<T> = unsafe extern "system" fn(*const T, *mut usize) -> OrtStatusPtr;
type List<T, P> = unsafe extern "system" fn(*const T, *mut *const P, usize) -> OrtStatusPtr;

/// # Safety
/// `object` is alive, and `count` and `list` are the runtime's functions for it.
unsafe fn parts<T, P>(
    host: Host,
    object: *const T,
    count: Count<T>,
    list: List<T, P>,
) -> Result<Vec<*const P>, HostError> {
    let mut n = 0;
    // SAFETY: the caller's promise.
    host.check(unsafe { count(object, &raw mut n) })?;
    let mut found = vec![ptr::null(); n];
    if n > 0 {
        // SAFETY: the caller's promise; the array has the length that the runtime has just named.
        host.check(unsafe { list(object, found.as_mut_ptr(), n) })?;
    }
    Ok(found)
}

/// # Safety
/// `object` is alive, and `read` is one of the runtime's getters of a string that lives as long as the object.
unsafe fn text<T>(
    host: Host,
    object: *const T,
    read: unsafe extern "system" fn(*const T, *mut *const c_char) -> OrtStatusPtr,
) -> Result<String, HostError> {
    let mut text = ptr::null();
    // SAFETY: the caller's promise.
    host.check(unsafe { read(object, &raw mut text) })?;
    if text.is_null() {
        return Ok(String::new());
    }
    // SAFETY: a string that is not null ends with NUL.
    Ok(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

impl<'a> GraphView<'a> {
    /// A view of a graph.
    ///
    /// # Safety
    /// `graph` is valid for `'a`.
    pub(crate) unsafe fn new(host: Host, graph: *const OrtGraph) -> Self {
        Self {
            host,
            graph,
            call: PhantomData,
        }
    }

    pub(crate) fn name(self) -> Result<String, HostError> {
        // SAFETY: the graph is alive for 'a.
        unsafe { text(self.host, self.graph, self.host.api.Graph_GetName) }
    }

    /// Whether the graph is the body of a control-flow node.
    pub(crate) fn is_body(self) -> Result<bool, HostError> {
        let mut parent = ptr::null();
        // SAFETY: the graph is alive for 'a.
        self.host
            .check(unsafe { (self.host.api.Graph_GetParentNode)(self.graph, &raw mut parent) })?;
        Ok(!parent.is_null())
    }

    /// All nodes, producers before readers.
    pub(crate) fn nodes(self) -> Result<Vec<NodeView<'a>>, HostError> {
        let api = self.host.api;
        // SAFETY: the graph is alive for 'a.
        let nodes = unsafe { parts(self.host, self.graph, api.Graph_GetNumNodes, api.Graph_GetNodes) }?;
        Ok(nodes
            .into_iter()
            // SAFETY: the graph's nodes live as long as the graph.
            .map(|node| unsafe { NodeView::new(self.host, node) })
            .collect())
    }
}

impl<'a> NodeView<'a> {
    /// A view of a node.
    ///
    /// # Safety
    /// `node` is valid for `'a`.
    pub(crate) unsafe fn new(host: Host, node: *const OrtNode) -> Self {
        Self {
            host,
            node,
            call: PhantomData,
        }
    }

    /// The runtime's handle.
    pub(crate) fn handle(self) -> *const OrtNode {
        self.node
    }

    pub(crate) fn name(self) -> Result<String, HostError> {
        // SAFETY: the node is alive for 'a.
        unsafe { text(self.host, self.node, self.host.api.Node_GetName) }
    }

    pub(crate) fn operator(self) -> Result<String, HostError> {
        // SAFETY: the node is alive for 'a.
        unsafe { text(self.host, self.node, self.host.api.Node_GetOperatorType) }
    }

    pub(crate) fn domain(self) -> Result<String, HostError> {
        // SAFETY: the node is alive for 'a.
        unsafe { text(self.host, self.node, self.host.api.Node_GetDomain) }
    }

    pub(crate) fn since_version(self) -> Result<i32, HostError> {
        let mut version = 0;
        // SAFETY: the node is alive for 'a.
        self.host
            .check(unsafe { (self.host.api.Node_GetSinceVersion)(self.node, &raw mut version) })?;
        Ok(version)
    }

    /// Inputs in order; `None` is an omitted optional one.
    pub(crate) fn inputs(self) -> Result<Vec<Option<ValueView<'a>>>, HostError> {
        let api = self.host.api;
        // SAFETY: the node is alive for 'a.
        unsafe { self.values(api.Node_GetNumInputs, api.Node_GetInputs) }
    }

    /// Outputs in order; `None` is one that nobody asked for.
    pub(crate) fn outputs(self) -> Result<Vec<Option<ValueView<'a>>>, HostError> {
        let api = self.host.api;
        // SAFETY: the node is alive for 'a.
        unsafe { self.values(api.Node_GetNumOutputs, api.Node_GetOutputs) }
    }

    /// Values of this graph that the node's bodies read.
    pub(crate) fn implicit_inputs(self) -> Result<Vec<Option<ValueView<'a>>>, HostError> {
        let api = self.host.api;
        // SAFETY: the node is alive for 'a.
        unsafe { self.values(api.Node_GetNumImplicitInputs, api.Node_GetImplicitInputs) }
    }

    /// Number of bodies.
    pub(crate) fn bodies(self) -> Result<usize, HostError> {
        let mut bodies = 0;
        // SAFETY: the node is alive for 'a.
        self.host
            .check(unsafe { (self.host.api.Node_GetNumSubgraphs)(self.node, &raw mut bodies) })?;
        Ok(bodies)
    }

    /// Handles of all attributes, given ones and the schema's defaults.
    pub(crate) fn attributes(self) -> Result<Vec<*const OrtOpAttr>, HostError> {
        let api = self.host.api;
        // SAFETY: the node is alive for 'a.
        unsafe {
            parts(
                self.host,
                self.node,
                api.Node_GetNumAttributes,
                api.Node_GetAttributes,
            )
        }
    }

    /// # Safety
    /// `count` and `list` are the runtime's functions for one kind of values of a node.
    unsafe fn values(
        self,
        count: Count<OrtNode>,
        list: List<OrtNode, OrtValueInfo>,
    ) -> Result<Vec<Option<ValueView<'a>>>, HostError> {
        // SAFETY: the node is alive for 'a; the functions are the caller's promise.
        let infos = unsafe { parts(self.host, self.node, count, list) }?;
        infos
            .into_iter()
            .map(|info| {
                if info.is_null() {
                    return Ok(None);
                }
                let value = ValueView {
                    host: self.host,
                    info,
                    call: PhantomData,
                };
                // Some releases give an omitted value as one without a name.
                Ok((!value.name()?.is_empty()).then_some(value))
            })
            .collect()
    }
}

impl<'a> ValueView<'a> {
    pub(crate) fn name(self) -> Result<String, HostError> {
        // SAFETY: the value is alive for 'a.
        unsafe { text(self.host, self.info, self.host.api.GetValueInfoName) }
    }

    /// Element type and extents as the graph declares them, or why there are none.
    pub(crate) fn declared(self) -> Result<Type, HostError> {
        let mut info: *const OrtTypeInfo = ptr::null();
        // SAFETY: the value is alive for 'a.
        self.host
            .check(unsafe { (self.host.api.GetValueInfoTypeInfo)(self.info, &raw mut info) })?;
        // SAFETY: a type info of a value lives as long as the value.
        unsafe { Type::of_info(self.host, info) }
    }

    pub(crate) fn is_graph_output(self) -> Result<bool, HostError> {
        // SAFETY: the value is alive for 'a.
        unsafe { self.flag(self.host.api.ValueInfo_IsGraphOutput) }
    }

    /// Whether the value is fixed for the graph's life, and this graph's own.
    pub(crate) fn is_constant(self) -> Result<bool, HostError> {
        // SAFETY: the value is alive for 'a.
        unsafe { self.flag(self.host.api.ValueInfo_IsConstantInitializer) }
    }

    /// The constant's tensor.
    pub(crate) fn constant(self) -> Result<Option<TensorView<'a>>, HostError> {
        let mut value: *const OrtValue = ptr::null();
        // SAFETY: the value is alive for 'a.
        self.host
            .check(unsafe { (self.host.api.ValueInfo_GetInitializerValue)(self.info, &raw mut value) })?;
        // SAFETY: an initializer's tensor is borrowed from the graph.
        Ok(unsafe { TensorView::new(self.host, value) })
    }

    /// # Safety
    /// `read` is one of the runtime's questions about a value.
    unsafe fn flag(
        self,
        read: unsafe extern "system" fn(*const OrtValueInfo, *mut bool) -> OrtStatusPtr,
    ) -> Result<bool, HostError> {
        let mut flag = false;
        // SAFETY: the value is alive for 'a; the function is the caller's promise.
        self.host.check(unsafe { read(self.info, &raw mut flag) })?;
        Ok(flag)
    }
}
