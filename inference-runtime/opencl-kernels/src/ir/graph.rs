//! A graph: values, nodes in topological order, constants.

use std::collections::HashMap;

use super::{Attributes, Node};
use crate::error::{Error, Result};
use crate::tensor::{DType, HostTensor};

/// Index of a value within its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// What is known of a value before any input has been seen.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueInfo {
    /// Name for messages.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents; the inner `None` is a dynamic extent, the outer `None` an unknown rank.
    pub dims: Option<Vec<Option<usize>>>,
}

impl ValueInfo {
    /// The concrete shape, if every extent is known.
    pub fn static_shape(&self) -> Option<Vec<usize>> {
        self.dims.as_ref()?.iter().copied().collect()
    }

    /// Number of axes, if known.
    pub fn rank(&self) -> Option<usize> {
        self.dims.as_ref().map(Vec::len)
    }
}

/// A graph in topological order.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Name for messages.
    pub name: String,
    /// All values; a [`ValueId`] is an index into this list.
    pub values: Vec<ValueInfo>,
    /// Nodes, each after the producers of its inputs.
    pub nodes: Vec<Node>,
    /// Values given with every run.
    pub inputs: Vec<ValueId>,
    /// Values wanted from every run.
    pub outputs: Vec<ValueId>,
    /// Values fixed for the graph's life (weights, shape arguments).
    pub constants: HashMap<ValueId, HostTensor>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Adds a value.
    pub fn value(
        &mut self,
        name: impl Into<String>,
        dtype: DType,
        dims: Option<Vec<Option<usize>>>,
    ) -> ValueId {
        self.values.push(ValueInfo {
            name: name.into(),
            dtype,
            dims,
        });
        ValueId(u32::try_from(self.values.len() - 1).expect("fewer than 2^32 values"))
    }

    /// Adds a graph input; `None` is a dynamic extent.
    pub fn input(&mut self, name: impl Into<String>, dtype: DType, dims: &[Option<usize>]) -> ValueId {
        let id = self.value(name, dtype, Some(dims.to_vec()));
        self.inputs.push(id);
        id
    }

    /// Adds a constant.
    pub fn constant(&mut self, name: impl Into<String>, tensor: HostTensor) -> ValueId {
        let dims = tensor.shape().iter().copied().map(Some).collect();
        let id = self.value(name, tensor.dtype(), Some(dims));
        self.constants.insert(id, tensor);
        id
    }

    /// Adds a node with one output of the given type and returns that output; for tests and hand-made graphs.
    pub fn node(
        &mut self,
        op_type: &str,
        since_version: i32,
        attributes: Attributes,
        inputs: &[ValueId],
        output: (DType, Option<Vec<Option<usize>>>),
    ) -> ValueId {
        let name = format!("{op_type}_{}", self.nodes.len());
        let out = self.value(format!("{name}_out"), output.0, output.1);
        self.nodes.push(Node {
            name,
            domain: String::new(),
            op_type: op_type.to_owned(),
            since_version,
            attributes,
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![Some(out)],
        });
        out
    }

    /// What is known of a value.
    pub fn info(&self, id: ValueId) -> &ValueInfo {
        &self.values[id.0 as usize]
    }

    /// How many node inputs and graph outputs read each value.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.values.len()];
        let read = self
            .nodes
            .iter()
            .flat_map(|n| n.inputs.iter().flatten())
            .chain(&self.outputs);
        for id in read {
            uses[id.0 as usize] += 1;
        }
        uses
    }

    /// Checks that every value is produced before it is read, and once.
    pub fn validate(&self) -> Result<()> {
        let malformed = |reason: String| Error::Malformed {
            graph: self.name.clone(),
            reason,
        };
        let mut known = vec![false; self.values.len()];
        for id in self.inputs.iter().chain(self.constants.keys()) {
            *known
                .get_mut(id.0 as usize)
                .ok_or_else(|| malformed(format!("no value {}", id.0)))? = true;
        }
        for node in &self.nodes {
            for id in node.inputs.iter().flatten() {
                if !known.get(id.0 as usize).copied().unwrap_or(false) {
                    return Err(malformed(format!(
                        "node '{}' reads value {} before it exists",
                        node.name, id.0
                    )));
                }
            }
            for id in node.outputs.iter().flatten() {
                let slot = known
                    .get_mut(id.0 as usize)
                    .ok_or_else(|| malformed(format!("no value {}", id.0)))?;
                if std::mem::replace(slot, true) {
                    return Err(malformed(format!(
                        "value '{}' is produced twice",
                        self.info(*id).name
                    )));
                }
            }
        }
        for id in &self.outputs {
            if !known.get(id.0 as usize).copied().unwrap_or(false) {
                return Err(malformed(format!("output {} is never produced", id.0)));
            }
        }
        Ok(())
    }
}
