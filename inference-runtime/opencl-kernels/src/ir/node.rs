//! One operator application.

use super::{Attributes, ValueId};

/// One node, in ONNX's vocabulary. Domain `""` is ONNX's own; domain [`Node::FUSED`] holds what [`crate::fusion`] makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name for messages; need not be unique.
    pub name: String,
    /// Operator domain.
    pub domain: String,
    /// Operator type, e.g. `MatMul`.
    pub op_type: String,
    /// The operator-set version that introduced this form of the operator.
    pub since_version: i32,
    /// Attributes as given; defaults are filled in by lowering.
    pub attributes: Attributes,
    /// Inputs in order; `None` is an omitted optional input.
    pub inputs: Vec<Option<ValueId>>,
    /// Outputs in order; `None` is an output nobody asked for.
    pub outputs: Vec<Option<ValueId>>,
}

impl Node {
    /// The domain of operators made by fusion; never seen in a model file.
    pub const FUSED: &'static str = "afterglow.fused";

    /// `op_type`, with the domain where it is not ONNX's own.
    pub fn qualified_op(&self) -> String {
        if self.domain.is_empty() {
            self.op_type.clone()
        } else {
            format!("{}::{}", self.domain, self.op_type)
        }
    }

    /// The `i`-th input, if it is present.
    pub fn input(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// The `i`-th output, if it is wanted.
    pub fn output(&self, i: usize) -> Option<ValueId> {
        self.outputs.get(i).copied().flatten()
    }
}
