//! Which node of a model runs where.

use ort_ep_sys::session::assignment;

use super::PROVIDER;

/// A node that does not run in our provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodePlacement {
    /// The node's name; may be empty.
    pub(crate) name: String,
    /// Its operator, as `Domain:Operator` outside ONNX's own domain.
    pub(crate) operator: String,
}

/// Which node runs where, from ONNX Runtime's own assignment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Nodes in our provider.
    pub(crate) device_nodes: usize,
    /// Fused partitions of our provider.
    pub(crate) partitions: usize,
    /// All other nodes.
    pub(crate) cpu: Vec<NodePlacement>,
}

impl Placed {
    pub(super) fn read(session: &ort::session::Session) -> Result<Self, ort::Error> {
        let mut placed = Self::default();
        for subgraph in assignment(session)? {
            if subgraph.provider == PROVIDER {
                placed.partitions += 1;
                placed.device_nodes += subgraph.nodes.len();
            } else {
                placed
                    .cpu
                    .extend(subgraph.nodes.into_iter().map(|node| NodePlacement {
                        name: node.name,
                        operator: node.operator,
                    }));
            }
        }
        Ok(placed)
    }
}
