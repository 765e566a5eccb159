//! A compiled graph: rewritten, lowered, checked. Pure: no device is touched.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ir::{Graph, Node, ValueId};
use crate::ops::{self, Operator};
use crate::plan::values::{self, Value};
use crate::tensor::{DType, HostTensor, TensorType};

/// What to do while compiling.
#[derive(Debug, Clone)]
pub struct CompileOptions {
    /// Rewrite the graph into fused operators ([`crate::fusion`]).
    pub fuse: bool,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self { fuse: true }
    }
}

/// A graph whose every node has an operator, and whose shapes can be planned from input shapes alone.
#[derive(Debug)]
pub struct Program {
    graph: Graph,
    operators: Vec<Box<dyn Operator>>,
    /// By value: whether planning needs to know it.
    needed: Vec<bool>,
    as_written: Option<Arc<Program>>,
}

impl Program {
    /// Validates, rewrites and lowers a graph, and checks that its shapes follow from its input shapes. If all input
    /// shapes are static, they are inferred once, so that a graph that can never run is refused here.
    pub fn compile(graph: Graph, options: &CompileOptions) -> Result<Self> {
        graph.validate()?;
        // First as written: whatever is wrong with it is said in its author's terms, not in fusion's.
        let as_written = Self::lowered(graph)?;
        if !options.fuse {
            return Ok(as_written);
        }
        let fused = crate::fusion::fuse(as_written.graph.clone());
        if fused.nodes == as_written.graph.nodes {
            return Ok(as_written);
        }
        // Fusion is optimistic: static shapes may show already here that it does not apply.
        match Self::lowered(fused) {
            Ok(fused) => Ok(Self {
                as_written: Some(Arc::new(as_written)),
                ..fused
            }),
            Err(error) => {
                tracing::debug!(%error, "the fused graph does not compile; running it as written");
                Ok(as_written)
            }
        }
    }

    fn lowered(graph: Graph) -> Result<Self> {
        let operators = graph
            .nodes
            .iter()
            .map(|node| ops::lower(&graph, node))
            .collect::<Result<Vec<_>, _>>()?;
        let mut program = Self {
            needed: vec![false; graph.values.len()],
            graph,
            operators,
            as_written: None,
        };
        program.check_plannable()?;
        program.needed = program.mark_needed();
        let shapes = program
            .graph
            .inputs
            .iter()
            .map(|&id| program.graph.info(id).static_shape());
        if let Some(shapes) = shapes.collect::<Option<Vec<Vec<usize>>>>() {
            program.infer(&shapes.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        }
        Ok(program)
    }

    /// The same graph without rewriting, where rewriting changed something: for input shapes that a fused operator
    /// refuses (a residual that broadcasts after all, a mask that enlarges).
    pub fn as_written(&self) -> Option<&Arc<Self>> {
        self.as_written.as_ref()
    }

    /// The graph after rewriting.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The operators' names in order, with the domain where it is not ONNX's own.
    pub fn ops(&self) -> impl Iterator<Item = String> + '_ {
        self.graph.nodes.iter().map(Node::qualified_op)
    }

    /// The outputs' element types.
    pub fn output_dtypes(&self) -> Vec<DType> {
        self.graph
            .outputs
            .iter()
            .map(|&id| self.graph.info(id).dtype)
            .collect()
    }

    /// The outputs' types for concrete input shapes; an error says which node does not fit and why.
    pub fn infer(&self, input_shapes: &[&[usize]]) -> Result<Vec<TensorType>> {
        let values = match (values::infer(self, input_shapes), self.as_written()) {
            (Err(Error::Invalid { .. }), Some(as_written)) => return as_written.infer(input_shapes),
            (values, _) => values?,
        };
        let ty = |id: &ValueId| {
            let value = values[id.0 as usize]
                .as_ref()
                .expect("validated: every output is produced");
            value.ty.clone()
        };
        Ok(self.graph.outputs.iter().map(ty).collect())
    }

    /// Computes the outputs with the operators' CPU references: slow, obviously right, what devices are compared with.
    pub fn evaluate(&self, inputs: &[HostTensor]) -> Result<Vec<HostTensor>> {
        let shapes: Vec<&[usize]> = inputs.iter().map(HostTensor::shape).collect();
        values::input_types(self, &shapes)?;
        let mut tensors: Vec<Option<HostTensor>> = vec![None; self.graph.values.len()];
        for (id, tensor) in &self.graph.constants {
            tensors[id.0 as usize] = Some(tensor.clone());
        }
        for (id, tensor) in self.graph.inputs.iter().zip(inputs) {
            tensors[id.0 as usize] = Some(tensor.clone());
        }
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let read: Vec<Option<&HostTensor>> = node
                .inputs
                .iter()
                .map(|id| id.and_then(|id| tensors[id.0 as usize].as_ref()))
                .collect();
            let operands: Vec<_> = read
                .iter()
                .map(|t| {
                    t.map(|t| ops::Operand {
                        ty: t.ty(),
                        known: Some(t),
                    })
                })
                .collect();
            let types = self.operators[index]
                .infer(&operands)
                .map_err(|reason| self.invalid(index, reason))?;
            let results = self.operators[index]
                .evaluate(&read)
                .map_err(|reason| self.invalid(index, reason))?;
            for ((id, ty), tensor) in node.outputs.iter().zip(&types).zip(results) {
                if tensor.ty() != ty {
                    return Err(self.invalid(index, format!("computes {}, but inferred {ty}", tensor.ty())));
                }
                if let Some(id) = id {
                    tensors[id.0 as usize] = Some(tensor);
                }
            }
        }
        let output = |id: &ValueId| {
            tensors[id.0 as usize].clone().ok_or_else(|| Error::Malformed {
                graph: self.graph.name.clone(),
                reason: format!("output '{}' was not computed", self.graph.info(*id).name),
            })
        };
        self.graph.outputs.iter().map(output).collect()
    }

    /// The operator of the node at this index.
    pub(crate) fn operator(&self, node: usize) -> &dyn Operator {
        self.operators[node].as_ref()
    }

    /// An [`Error::Invalid`] about the node at this index.
    pub(crate) fn invalid(&self, node: usize, reason: String) -> Error {
        let node = &self.graph.nodes[node];
        Error::Invalid {
            node: node.name.clone(),
            op: node.qualified_op(),
            reason,
        }
    }

    /// What is known of a node's inputs.
    pub(crate) fn inputs_of<'v>(&self, node: usize, values: &'v [Option<Value>]) -> Vec<Option<&'v Value>> {
        let inputs = &self.graph.nodes[node].inputs;
        inputs
            .iter()
            .map(|id| id.and_then(|id| values[id.0 as usize].as_ref()))
            .collect()
    }

    /// Whether planning needs to know this value, and so folds it whatever its size.
    pub(crate) fn needed_for_planning(&self, id: ValueId) -> bool {
        self.needed[id.0 as usize]
    }

    /// Refuses a graph in which a value that decides shapes or launches depends on the request's data.
    fn check_plannable(&self) -> Result<()> {
        let mut known: HashSet<ValueId> = self.graph.constants.keys().copied().collect();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let operator = self.operator(index);
            for &i in operator.static_inputs() {
                if let Some(id) = node.input(i)
                    && !known.contains(&id)
                {
                    let name = &self.graph.info(id).name;
                    return Err(crate::Unsupported {
                        node: node.name.clone(),
                        op: node.qualified_op(),
                        reason: format!("input {i} ('{name}') depends on the request's data"),
                    }
                    .into());
                }
            }
            if operator.reads_only_shapes() || node.inputs.iter().flatten().all(|id| known.contains(id)) {
                known.extend(node.outputs.iter().flatten());
            }
        }
        Ok(())
    }

    fn mark_needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.graph.values.len()];
        for (index, node) in self.graph.nodes.iter().enumerate().rev() {
            let operator = self.operator(index);
            let output_needed = node.outputs.iter().flatten().any(|id| needed[id.0 as usize]);
            if output_needed && !operator.reads_only_shapes() {
                for id in node.inputs.iter().flatten() {
                    needed[id.0 as usize] = true;
                }
            }
            for id in operator.static_inputs().iter().filter_map(|&i| node.input(i)) {
                needed[id.0 as usize] = true;
            }
        }
        needed
    }
}
