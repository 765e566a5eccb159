//! Rewrites of the graph before it is lowered: several nodes become one that needs one launch and no memory between.
//!
//! Patterns are optimistic about dynamic extents. A fused node's `infer` refuses shapes that its rewrite did not allow
//! for (a residual that broadcasts, a mask that enlarges), and the planner then plans the graph as it was written.
//! So a pattern must only be sure of what `infer` cannot see: values, attributes, ranks, and who else reads a value.

mod activation;
mod epilogue;
mod factors;
mod gelu;
mod hard_swish;
mod layer_norm;
mod silu;
mod skip_layer_norm;
mod softmax;
mod view;

#[cfg(test)]
mod fixture;

use crate::ir::{Graph, Node, ValueId};
use crate::tensor::HostTensor;

pub(crate) use view::View;

/// An input of a node that a pattern makes.
#[derive(Debug, Clone)]
enum Input {
    /// A value of the graph.
    Value(ValueId),
    /// A constant that the rewrite computed.
    Constant(&'static str, HostTensor),
    /// Omitted.
    Absent,
}

/// What a pattern found: these nodes go, this one comes.
#[derive(Debug)]
struct Rewrite {
    /// Nodes to remove, by index. Whatever they produce must be read only among themselves or be an output of `node`;
    /// the driver checks it.
    remove: Vec<usize>,
    /// Where the new node goes: at the index of this removed node.
    place: usize,
    /// The new node; its `inputs` are filled in from the next field.
    node: Node,
    inputs: Vec<Input>,
}

/// A pattern: looks at the node with this index and says what could be rewritten.
type Pattern = fn(&View<'_>, usize) -> Option<Rewrite>;

/// In this order: small shapes first, since the epilogues absorb the activations they make.
const PATTERNS: &[Pattern] = &[
    gelu::find,
    silu::find,
    hard_swish::find,
    layer_norm::find,
    softmax::find,
    epilogue::find,
    skip_layer_norm::find,
];

/// Applies every pattern until none finds anything.
pub fn fuse(mut graph: Graph) -> Graph {
    for pattern in PATTERNS {
        let mut from = 0;
        while let Some((at, rewrite)) = next(&graph, *pattern, from) {
            apply(&mut graph, rewrite);
            // The same index again: a longer chain may start from the new node.
            from = at;
        }
    }
    graph
}

/// The first rewrite at or behind a node. Making a view walks the whole graph, so one view serves until a rewrite
/// makes it stale: a view per node would take a minute on a graph of some thousand nodes.
fn next(graph: &Graph, pattern: Pattern, from: usize) -> Option<(usize, Rewrite)> {
    let view = View::new(graph);
    (from..graph.nodes.len()).find_map(|at| {
        let rewrite = pattern(&view, at).filter(|rewrite| closed(&view, rewrite))?;
        Some((at, rewrite))
    })
}

/// Whether nobody but the removed nodes reads what they produce, except what the new node still produces.
fn closed(view: &View<'_>, rewrite: &Rewrite) -> bool {
    let reads = |value: ValueId| {
        let inside = rewrite.remove.iter().flat_map(|&i| &view.node(i).inputs);
        inside.filter(|input| **input == Some(value)).count()
    };
    rewrite
        .remove
        .iter()
        .flat_map(|&i| view.node(i).outputs.iter().flatten())
        .all(|&value| rewrite.node.outputs.contains(&Some(value)) || reads(value) == view.uses(value))
}

fn apply(graph: &mut Graph, rewrite: Rewrite) {
    let Rewrite {
        mut remove,
        place,
        mut node,
        inputs,
    } = rewrite;
    node.inputs = inputs
        .into_iter()
        .map(|input| match input {
            Input::Value(id) => Some(id),
            Input::Constant(name, tensor) => Some(graph.constant(format!("{}.{name}", node.name), tensor)),
            Input::Absent => None,
        })
        .collect();
    while node.inputs.last() == Some(&None) {
        node.inputs.pop();
    }
    graph.nodes[place] = node;
    remove.retain(|&i| i != place);
    remove.sort_unstable();
    remove.dedup();
    for i in remove.into_iter().rev() {
        graph.nodes.remove(i);
    }
}

/// A node for a rewrite that replaces `last`, keeping its name and output.
fn node_in_place_of(last: &Node, domain: &str, op_type: &str, since_version: i32) -> Node {
    Node {
        name: last.name.clone(),
        domain: domain.to_owned(),
        op_type: op_type.to_owned(),
        since_version,
        attributes: crate::ir::Attributes::default(),
        inputs: Vec::new(),
        outputs: last.outputs.clone(),
    }
}
