//! Which nodes only compute shapes.
//!
//! ONNX Runtime keeps integer arithmetic on extents on the CPU, and it costs microseconds there. `placement: strict`
//! forbids work on the CPU, not this; so it has to be told apart.

use std::collections::BTreeSet;

use super::proto::Graph;

/// Operators that carry a shape on to a shape. Whether a node of one does is decided by where its inputs come from.
pub(crate) const SHAPE_OPERATORS: [&str; 36] = [
    "Shape",
    "Size",
    "Gather",
    "Concat",
    "Unsqueeze",
    "Squeeze",
    "Slice",
    "Cast",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Mod",
    "Neg",
    "Abs",
    "Min",
    "Max",
    "Floor",
    "Ceil",
    "Range",
    "ConstantOfShape",
    "Reshape",
    "Equal",
    "Less",
    "Greater",
    "LessOrEqual",
    "GreaterOrEqual",
    "Not",
    "And",
    "Or",
    "Where",
    "Expand",
    "ReduceProd",
    "ReduceMax",
    "Identity",
    "Constant",
];

/// Names of the nodes of `graph` that compute from extents and constants alone, and reach no data.
pub(super) fn shape_arithmetic(graph: &Graph) -> BTreeSet<String> {
    let constants: BTreeSet<&str> = graph
        .initializer
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    // Values that are known from extents and constants alone. Nodes are in topological order (ONNX IR specification).
    let mut known: BTreeSet<&str> = constants;
    let mut names = BTreeSet::new();
    for node in &graph.node {
        let reads_extents = matches!(node.op_type.as_str(), "Shape" | "Size");
        let from_known = SHAPE_OPERATORS.contains(&node.op_type.as_str())
            && node
                .input
                .iter()
                .all(|input| input.is_empty() || known.contains(input.as_str()));
        if node.domain.is_empty() && (reads_extents || from_known) {
            known.extend(node.output.iter().map(String::as_str));
            if !node.name.is_empty() {
                names.insert(node.name.clone());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::proto::{Node, Tensor};
    use super::*;

    #[test]
    fn arithmetic_on_extents_is_told_from_arithmetic_on_data() {
        let node = |name: &str, operator: &str, inputs: &[&str]| Node {
            name: name.into(),
            op_type: operator.into(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![name.to_lowercase()],
            ..Default::default()
        };
        let graph = Graph {
            initializer: vec![Tensor {
                name: "zero".into(),
                ..Default::default()
            }],
            node: vec![
                node("EXTENTS", "Shape", &["x"]),
                node("BATCH", "Gather", &["extents", "zero"]),
                node("TARGET", "Concat", &["batch", "zero"]),
                node("RESHAPED", "Reshape", &["x", "target"]),
                node("ROWS", "Gather", &["x", "zero"]),
                node("PRODUCT", "MatMul", &["zero", "zero"]),
            ],
            ..Default::default()
        };
        let expected = ["BATCH", "EXTENTS", "TARGET"].map(String::from);
        assert_eq!(shape_arithmetic(&graph), BTreeSet::from(expected));
    }
}
