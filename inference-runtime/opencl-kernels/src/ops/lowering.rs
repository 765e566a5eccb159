//! From a node to its operator: the registry and what constructors see.

use std::ops::RangeInclusive;

use super::Operator;
use crate::error::Unsupported;
use crate::ir::{Attributes, Graph, Node};
use crate::tensor::{DType, HostTensor, MAX_RANK};

/// A constructor: parses attributes and checks types and ranks, or says why not.
pub type Constructor = fn(&NodeView<'_>) -> Result<Box<dyn Operator>, String>;

/// One operator that can be lowered.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Domain; `""` is ONNX's own.
    pub domain: &'static str,
    /// Operator type.
    pub op_type: &'static str,
    /// `since_version`s whose semantics the constructor knows.
    pub versions: RangeInclusive<i32>,
    /// Makes the operator.
    pub construct: Constructor,
}

impl Registration {
    /// An operator of ONNX's own domain.
    pub const fn onnx(op_type: &'static str, first: i32, last: i32, construct: Constructor) -> Self {
        Self {
            domain: "",
            op_type,
            versions: first..=last,
            construct,
        }
    }

    /// An operator made by fusion.
    pub const fn fused(op_type: &'static str, construct: Constructor) -> Self {
        Self {
            domain: Node::FUSED,
            op_type,
            versions: 1..=1,
            construct,
        }
    }
}

/// Every operator that can be lowered, family by family.
pub fn registrations() -> impl Iterator<Item = &'static Registration> {
    [
        super::conv::OPERATORS,
        super::elementwise::OPERATORS,
        super::index::OPERATORS,
        super::matmul::OPERATORS,
        super::movement::OPERATORS,
        super::norm::OPERATORS,
        super::pool::OPERATORS,
        super::reduce::OPERATORS,
        super::shape::OPERATORS,
    ]
    .into_iter()
    .flatten()
}

/// Lowers one node, or says why it cannot be.
pub fn lower(graph: &Graph, node: &Node) -> Result<Box<dyn Operator>, Unsupported> {
    let view = NodeView { graph, node };
    let refuse = |reason: String| Unsupported {
        node: node.name.clone(),
        op: node.qualified_op(),
        reason,
    };
    let domain = if node.domain == "ai.onnx" {
        ""
    } else {
        node.domain.as_str()
    };
    let mut known = registrations()
        .filter(|r| r.domain == domain && r.op_type == node.op_type)
        .peekable();
    if known.peek().is_none() {
        return Err(refuse("no kernel for this operator".to_owned()));
    }
    let registration = known
        .find(|r| r.versions.contains(&node.since_version))
        .ok_or_else(|| {
            refuse(format!(
                "version {} of this operator is not known here",
                node.since_version
            ))
        })?;
    view.check_ranks()
        .and_then(|()| (registration.construct)(&view))
        .map_err(refuse)
}

/// A node with what its graph knows of its inputs: all that a constructor may look at.
#[derive(Debug, Clone, Copy)]
pub struct NodeView<'g> {
    graph: &'g Graph,
    node: &'g Node,
}

impl<'g> NodeView<'g> {
    /// The node itself.
    pub fn node(&self) -> &'g Node {
        self.node
    }

    /// The node's attributes.
    pub fn attributes(&self) -> &'g Attributes {
        &self.node.attributes
    }

    /// Whether the `i`-th input is present.
    pub fn has_input(&self, i: usize) -> bool {
        self.node.input(i).is_some()
    }

    /// Number of inputs, omitted ones included.
    pub fn inputs(&self) -> usize {
        self.node.inputs.len()
    }

    /// The `i`-th input's element type; an error if it is missing.
    pub fn dtype(&self, i: usize) -> Result<DType, String> {
        let id = self
            .node
            .input(i)
            .ok_or_else(|| format!("input {i} is missing"))?;
        Ok(self.graph.info(id).dtype)
    }

    /// The `i`-th input's number of axes; an error if it is missing ([`lower`] has refused unknown ranks already).
    pub fn rank(&self, i: usize) -> Result<usize, String> {
        let id = self
            .node
            .input(i)
            .ok_or_else(|| format!("input {i} is missing"))?;
        self.graph
            .info(id)
            .rank()
            .ok_or_else(|| format!("the rank of input {i} is not known"))
    }

    /// The `i`-th input's extents as far as they are known (`None` = dynamic).
    pub fn dims(&self, i: usize) -> Option<&'g [Option<usize>]> {
        self.graph.info(self.node.input(i)?).dims.as_deref()
    }

    /// The `i`-th input's value, if it is a constant of the graph.
    pub fn constant(&self, i: usize) -> Option<&'g HostTensor> {
        self.graph.constants.get(&self.node.input(i)?)
    }

    /// The `i`-th output's element type as declared in the graph, if that output is wanted.
    pub fn output_dtype(&self, i: usize) -> Option<DType> {
        Some(self.graph.info(self.node.output(i)?).dtype)
    }

    /// Whether the `i`-th output is wanted.
    pub fn wants_output(&self, i: usize) -> bool {
        self.node.output(i).is_some()
    }

    /// Refuses unless the `i`-th input has one of these element types.
    pub fn require_dtype(&self, i: usize, allowed: &[DType]) -> Result<DType, String> {
        let dtype = self.dtype(i)?;
        if allowed.contains(&dtype) {
            Ok(dtype)
        } else {
            Err(format!("input {i} is {dtype}"))
        }
    }

    /// An integer attribute or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attributes().int(name).unwrap_or(default)
    }

    /// A float attribute or its default.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attributes().float(name).unwrap_or(default)
    }

    fn check_ranks(&self) -> Result<(), String> {
        let values = self.node.inputs.iter().chain(&self.node.outputs).flatten();
        for info in values.map(|id| self.graph.info(*id)) {
            match info.rank() {
                None => return Err(format!("the rank of '{}' is not known before it runs", info.name)),
                Some(rank) if rank > MAX_RANK => {
                    return Err(format!("'{}' has {rank} axes, more than {MAX_RANK}", info.name));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
