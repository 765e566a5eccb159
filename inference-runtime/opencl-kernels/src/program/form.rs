//! One form of a graph, lowered: as it was written, or as fusion rewrote it.

use std::collections::HashSet;

use crate::error::{Error, Result, Unsupported};
use crate::ir::{Graph, ValueId};
use crate::ops::{self, Operator};

/// A graph whose every node has an operator.
#[derive(Debug)]
pub(crate) struct Form {
    graph: Graph,
    operators: Vec<Box<dyn Operator>>,
    /// By value: whether planning needs to know it.
    needed: Vec<bool>,
    /// Put in front of keys that name nodes, since forms number their nodes differently.
    prefix: &'static str,
}

impl Form {
    /// Lowers every node and checks that shapes and launches follow from the input shapes.
    pub(super) fn lower(graph: Graph, prefix: &'static str) -> Result<Self> {
        let lower = |node| ops::lower(&graph, node);
        let operators = graph.nodes.iter().map(lower).collect::<Result<Vec<_>, _>>()?;
        let mut form = Self {
            needed: Vec::new(),
            graph,
            operators,
            prefix,
        };
        form.check_plannable()?;
        form.needed = form.mark_needed();
        Ok(form)
    }

    /// The graph.
    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What sets this form's node numbers apart from another's.
    pub(crate) fn prefix(&self) -> &'static str {
        self.prefix
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
                    return Err(Unsupported {
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
