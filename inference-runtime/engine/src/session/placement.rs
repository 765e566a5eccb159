//! Which node of a model runs where.

use ort_ep_sys::session::assignment;

use super::PROVIDER;

/// A node that does not run in our provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlacement {
    /// The node's name; may be empty.
    pub name: String,
    /// Its operator, as `Domain:Operator` outside ONNX's own domain.
    pub operator: String,
}

/// Which node runs where, from ONNX Runtime's own assignment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// Nodes in our provider.
    pub device_nodes: usize,
    /// Fused partitions of our provider.
    pub partitions: usize,
    /// All other nodes.
    pub cpu: Vec<NodePlacement>,
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
