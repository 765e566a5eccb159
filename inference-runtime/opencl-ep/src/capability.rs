//! What of a graph we run: nodes are claimed in groups, and only groups that a dry run of the compiler has accepted.
//!
//! ONNX Runtime fails a session whose claimed nodes do not compile, so nothing is claimed on good faith. A node that
//! the compiler refuses is declined and the rest grouped anew, until every group compiles.

use opencl_kernels::ir;
use opencl_kernels::ops;

use crate::graph::{Model, Type};

/// Operators whose arithmetic outgrows the data they touch. Everything else is bound by memory, and a piece of a graph
/// bound by memory is done on the host before its tensors have crossed to the device.
const HEAVY: &[&str] = &[
    "Attention",
    "Conv",
    "ConvTranspose",
    "Einsum",
    "GRU",
    "Gemm",
    "LSTM",
    "MatMul",
    "RNN",
];

/// What a graph's claim comes to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Claim {
    /// Groups of nodes, each to be fused into one.
    pub(crate) groups: Vec<Vec<usize>>,
    /// Nodes that are left to other providers, and why.
    pub(crate) declined: Vec<(usize, String)>,
}

/// Why a dry run refused a group.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The node's name, if one node is to blame.
    pub(crate) node: Option<String>,
    /// Why, in words.
    pub(crate) reason: String,
}

/// Decides what to claim; `dry_run` compiles a group and throws the result away.
pub(crate) fn claim(model: &Model, mut dry_run: impl FnMut(ir::Graph) -> Result<(), Refused>) -> Claim {
    let mut refusals: Vec<Option<String>> = lower_each(model);
    let producers = model.producers();
    loop {
        let supported: Vec<bool> = refusals.iter().map(Option::is_none).collect();
        let groups = crate::partition::groups(&producers, &supported);
        let mut refused_any = false;
        for group in &groups {
            for (node, reason) in refused_in(model, group, &mut dry_run) {
                refusals[node] = Some(reason);
                refused_any = true;
            }
        }
        // Each round declines at least one node, so this ends.
        if !refused_any {
            let (groups, light) = groups
                .into_iter()
                .partition(|group| is_worth_crossing(model, group));
            for node in <Vec<Vec<usize>>>::into_iter(light).flatten() {
                refusals[node] = Some("its group is not worth the way to the device and back".into());
            }
            let declined = refusals
                .into_iter()
                .enumerate()
                .filter_map(|(n, r)| Some((n, r?)))
                .collect();
            return Claim { groups, declined };
        }
    }
}

/// Whether a group should run on the device: a whole graph, because its borders are crossed by somebody in any case and
/// its owner has asked for the device; a part of one only if there is something to gain.
fn is_worth_crossing(model: &Model, group: &[usize]) -> bool {
    group.len() == model.nodes.len()
        || group
            .iter()
            .any(|&n| HEAVY.contains(&model.nodes[n].operator.as_str()))
}

/// The first answer, node by node: is there an operator for it?
fn lower_each(model: &Model) -> Vec<Option<String>> {
    (0..model.nodes.len())
        .map(|n| lower_one(model, n).err())
        .collect()
}

fn lower_one(model: &Model, n: usize) -> Result<(), String> {
    let node = &model.nodes[n];
    if node.has_bodies {
        return Err("control flow stays with the host".into());
    }
    // A node alone: everything it reads comes from outside, everything it writes goes there.
    let mut inputs: Vec<_> = node
        .reads()
        .filter(|v| model.values[*v].constant.is_none())
        .collect();
    inputs.sort_unstable();
    inputs.dedup();
    let outputs: Vec<_> = node.outputs.iter().flatten().copied().collect();
    let graph = model
        .to_ir(&[n], &inputs, &outputs)
        .map_err(|(_, reason)| reason)?;
    let operator = ops::lower(&graph, &graph.nodes[0]).map_err(|unsupported| unsupported.reason)?;
    check_declared_types(model, n, &graph, operator.as_ref())
}

/// A model may declare a result to be of another type than the operator gives. Readers outside the group would then
/// read bytes of the wrong width, so such a node is the runtime's to judge.
fn check_declared_types(
    model: &Model,
    n: usize,
    graph: &ir::Graph,
    operator: &dyn ops::Operator,
) -> Result<(), String> {
    let types: Option<Vec<_>> = graph.nodes[0]
        .inputs
        .iter()
        .map(|id| match id {
            None => Some(None),
            Some(id) => {
                let info = graph.info(*id);
                let shape = info.static_shape()?;
                Some(Some((
                    opencl_kernels::tensor::TensorType::new(info.dtype, shape),
                    graph.constants.get(id),
                )))
            }
        })
        .collect();
    let Some(types) = types else { return Ok(()) };
    let operands: Vec<_> = types
        .iter()
        .map(|t| t.as_ref().map(|(ty, known)| ops::Operand { ty, known: *known }))
        .collect();
    // Shapes that depend on values of other nodes are not known yet; the dry run sees them.
    let Ok(inferred) = operator.infer(&operands) else {
        return Ok(());
    };
    for (i, value) in model.nodes[n].outputs.iter().enumerate() {
        let (Some(value), Some(ty)) = (value, inferred.get(i)) else {
            continue;
        };
        let value = &model.values[*value];
        if let Type::Tensor(declared, _) = &value.ty
            && *declared != ty.dtype
        {
            return Err(format!(
                "'{}' is declared as {declared}, the operator gives {}",
                value.name, ty.dtype
            ));
        }
    }
    Ok(())
}

/// The nodes of a group that must not be in it; none if the group compiles.
fn refused_in(
    model: &Model,
    group: &[usize],
    dry_run: &mut impl FnMut(ir::Graph) -> Result<(), Refused>,
) -> Vec<(usize, String)> {
    let (inputs, outputs) = model.borders(group);
    if outputs.is_empty() {
        return all(group, "nobody reads its results");
    }
    let graph = match model.to_ir(group, &inputs, &outputs) {
        Ok(graph) => graph,
        Err((node, reason)) => return vec![(node, reason)],
    };
    let Err(Refused { node, reason }) = dry_run(graph) else {
        return Vec::new();
    };
    let blamed = node.and_then(|name| group.iter().copied().find(|&n| model.nodes[n].name == name));
    match blamed {
        Some(node) => vec![(node, reason)],
        // A fault without a culprit: none of the group is safe to claim.
        None => all(group, &reason),
    }
}

fn all(group: &[usize], reason: &str) -> Vec<(usize, String)> {
    group.iter().map(|&n| (n, reason.to_owned())).collect()
}

#[cfg(test)]
mod tests;
