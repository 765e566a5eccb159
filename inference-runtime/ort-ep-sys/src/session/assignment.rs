//! Which provider got which node.

use std::ffi::{CStr, c_char};
use std::ptr;

use ort::AsPointer;

use super::check;

/// Nodes that one provider runs together: one fused partition of a compiling provider, or one node of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedSubgraph {
    /// The provider's name, e.g. `CPUExecutionProvider`.
    pub provider: String,
    /// Its nodes.
    pub nodes: Vec<AssignedNode>,
}

/// A node as it was when providers were asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedNode {
    /// The node's name; may be empty.
    pub name: String,
    /// The operator, as `Domain:Operator` outside ONNX's own domain.
    pub operator: String,
}

/// Reads the assignment of a session that was made with `session.record_ep_graph_assignment_info` = `1`.
///
/// The graph is the one before providers' own rewrites and ONNX Runtime's layout and fusion passes of higher levels;
/// nodes of control-flow bodies are listed beside the others.
pub fn assignment(session: &ort::session::Session) -> Result<Vec<AssignedSubgraph>, ort::Error> {
    let api = ort::api();
    let mut subgraphs: *const *const ort_sys::OrtEpAssignedSubgraph = ptr::null();
    let mut count = 0;
    // SAFETY: the session is alive as long as the borrow; both out-pointers are valid for the call.
    check(unsafe {
        (api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &raw mut subgraphs, &raw mut count)
    })?;
    (0..count)
        .map(|i| {
            // SAFETY: the runtime answered `count` valid pointers, owned by the session.
            let subgraph = unsafe { *subgraphs.add(i) };
            let mut nodes: *const *const ort_sys::OrtEpAssignedNode = ptr::null();
            let mut node_count = 0;
            // SAFETY: `subgraph` lives as long as the session; both out-pointers are valid for the call.
            check(unsafe {
                (api.EpAssignedSubgraph_GetNodes)(subgraph, &raw mut nodes, &raw mut node_count)
            })?;
            let nodes = (0..node_count)
                .map(|j| {
                    // SAFETY: as above, `node_count` valid pointers owned by the session.
                    let node = unsafe { *nodes.add(j) };
                    // SAFETY: `node` lives as long as the session.
                    let domain = text(|out| unsafe { (api.EpAssignedNode_GetDomain)(node, out) })?;
                    // SAFETY: `node` lives as long as the session.
                    let operator = text(|out| unsafe { (api.EpAssignedNode_GetOperatorType)(node, out) })?;
                    // SAFETY: `node` lives as long as the session.
                    let name = text(|out| unsafe { (api.EpAssignedNode_GetName)(node, out) })?;
                    let operator = match domain.as_str() {
                        "" | "ai.onnx" => operator,
                        domain => format!("{domain}:{operator}"),
                    };
                    Ok(AssignedNode { name, operator })
                })
                .collect::<Result<_, ort::Error>>()?;
            Ok(AssignedSubgraph {
                // SAFETY: `subgraph` lives as long as the session.
                provider: text(|out| unsafe { (api.EpAssignedSubgraph_GetEpName)(subgraph, out) })?,
                nodes,
            })
        })
        .collect()
}

/// Calls a getter that answers a string owned by the session.
fn text(get: impl FnOnce(*mut *const c_char) -> ort_sys::OrtStatusPtr) -> Result<String, ort::Error> {
    let mut out: *const c_char = ptr::null();
    check(get(&raw mut out))?;
    if out.is_null() {
        return Ok(String::new());
    }
    // SAFETY: a getter that succeeded answers a NUL-terminated string that lives as long as the session.
    Ok(unsafe { CStr::from_ptr(out) }.to_string_lossy().into_owned())
}
