//! Computes what depends on constants only, once and for all shapes.

use crate::ir::{Graph, Node, ValueId};
use crate::ops::{self, Operand};
use crate::tensor::HostTensor;

/// Elements up to which a node's outputs are folded. The references are slow; what is larger runs on the device.
const LIMIT: usize = 1 << 24;

/// Replaces nodes whose inputs are all constants by their results. A node that cannot be evaluated stays, and says
/// why when it is planned.
pub(super) fn constants(mut graph: Graph) -> Graph {
    let nodes = std::mem::take(&mut graph.nodes);
    for node in nodes {
        match evaluate(&graph, &node) {
            Some(results) => {
                for (id, tensor) in results {
                    let info = &mut graph.values[id.0 as usize];
                    info.dims = Some(tensor.shape().iter().copied().map(Some).collect());
                    graph.constants.insert(id, tensor);
                }
            }
            None => graph.nodes.push(node),
        }
    }
    graph
}

fn evaluate(graph: &Graph, node: &Node) -> Option<Vec<(ValueId, HostTensor)>> {
    let constant = |id: &Option<ValueId>| match id {
        Some(id) => graph.constants.get(id).map(Some),
        None => Some(None),
    };
    let inputs: Vec<Option<&HostTensor>> = node.inputs.iter().map(constant).collect::<Option<_>>()?;
    let operator = ops::lower(graph, node).ok()?;
    let operands: Vec<Option<Operand<'_>>> = inputs
        .iter()
        .map(|tensor| {
            tensor.map(|tensor| Operand {
                ty: tensor.ty(),
                known: Some(tensor),
            })
        })
        .collect();
    let types = operator.infer(&operands).ok()?;
    let sizes = types
        .iter()
        .map(|ty| ty.checked_elements().filter(|&n| n <= LIMIT));
    sizes.sum::<Option<usize>>().filter(|&n| n <= LIMIT)?;
    let results = operator.evaluate(&inputs).ok()?;
    node.outputs
        .iter()
        .zip(types.iter().zip(results))
        .filter_map(|(id, result)| Some(((*id)?, result)))
        .map(|(id, (ty, tensor))| {
            let fits = tensor.ty() == ty && ty.dtype == graph.info(id).dtype;
            fits.then_some((id, tensor))
        })
        .collect()
}
