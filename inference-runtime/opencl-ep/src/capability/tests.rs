use super::*;
use crate::graph::{Node, Value};

/// A model of nodes that all have one input and one output.
struct Builder(Model);

impl Builder {
    fn new() -> Self {
        Self(Model::default())
    }

    fn value(&mut self, name: &str, ty: Type) -> usize {
        self.0.find(name).unwrap_or_else(|| {
            self.0.add(Value {
                name: name.into(),
                ty,
                is_output: name == "y",
                constant: None,
            })
        })
    }

    fn node(mut self, operator: &str, input: &str, output: &str) -> Self {
        let float = Type::Tensor(opencl_kernels::tensor::DType::F32, Some(vec![None, None]));
        let (input, output) = (self.value(input, float.clone()), self.value(output, float));
        self.0.nodes.push(Node {
            name: format!("{operator}{}", self.0.nodes.len()),
            operator: operator.into(),
            domain: String::new(),
            since_version: 13,
            attributes: Ok(ir::Attributes::default()),
            inputs: vec![Some(input); if operator == "MatMul" { 2 } else { 1 }],
            implicit_inputs: Vec::new(),
            outputs: vec![Some(output)],
            has_bodies: false,
        });
        self
    }
}

#[test]
fn a_chain_of_known_operators_is_one_group() {
    let model = Builder::new()
        .node("Transpose", "x", "a")
        .node("Transpose", "a", "b")
        .node("Transpose", "b", "y")
        .0;
    let claim = claim(&model, |_| Ok(()));
    assert_eq!(claim.groups, [[0, 1, 2]]);
    assert!(claim.declined.is_empty());
}

#[test]
fn an_unknown_operator_is_declined_with_the_reason() {
    let model = Builder::new()
        .node("MatMul", "x", "a")
        .node("Teleport", "a", "b")
        .node("MatMul", "b", "y")
        .0;
    let claim = claim(&model, |_| Ok(()));
    assert_eq!(claim.groups, [[0], [2]]);
    assert_eq!(claim.declined.len(), 1);
    assert!(claim.declined[0].1.contains("no kernel"), "{:?}", claim.declined);
}

#[test]
fn a_light_part_of_a_graph_is_not_worth_the_crossing() {
    let model = Builder::new()
        .node("Transpose", "x", "a")
        .node("Teleport", "a", "b")
        .node("MatMul", "b", "c")
        .node("Transpose", "c", "y")
        .0;
    let claim = claim(&model, |_| Ok(()));
    assert_eq!(claim.groups, [[2, 3]]);
    let reasons: Vec<_> = claim
        .declined
        .iter()
        .map(|(n, reason)| (*n, reason.as_str()))
        .collect();
    assert_eq!(
        reasons[0],
        (0, "its group is not worth the way to the device and back")
    );
}

#[test]
fn a_node_that_the_dry_run_refuses_is_declined_and_the_rest_grouped_anew() {
    let model = Builder::new()
        .node("MatMul", "x", "a")
        .node("MatMul", "a", "b")
        .node("MatMul", "b", "y")
        .0;
    let mut runs = Vec::new();
    let claim = claim(&model, |graph| {
        runs.push(graph.nodes.len());
        if graph.nodes.iter().any(|n| n.name == "MatMul1") {
            return Err(Refused {
                node: Some("MatMul1".into()),
                reason: "depends on data".into(),
            });
        }
        Ok(())
    });
    assert_eq!(claim.groups, [[0], [2]]);
    assert_eq!(claim.declined, [(1, "depends on data".to_owned())]);
    assert_eq!(runs, [3, 1, 1]);
}

#[test]
fn a_refusal_without_a_culprit_declines_the_whole_group() {
    let model = Builder::new()
        .node("Transpose", "x", "a")
        .node("Transpose", "a", "y")
        .0;
    let claim = claim(&model, |_| {
        Err(Refused {
            node: None,
            reason: "too deep".into(),
        })
    });
    assert!(claim.groups.is_empty());
    assert_eq!(claim.declined.len(), 2);
}

#[test]
fn a_value_that_is_no_tensor_declines_its_reader_only() {
    let mut builder = Builder::new();
    builder.value("s", Type::Other("a sequence".into()));
    let model = builder.node("MatMul", "s", "a").node("MatMul", "x", "y").0;
    let claim = claim(&model, |_| Ok(()));
    assert_eq!(claim.groups, [[1]]);
    assert_eq!(claim.declined, [(0, "'s' is a sequence".to_owned())]);
}

#[test]
fn borders_of_a_group_are_what_it_reads_and_what_others_read() {
    let model = Builder::new()
        .node("Transpose", "x", "a")
        .node("Transpose", "a", "b")
        .node("Transpose", "a", "y")
        .0;
    let (inputs, outputs) = model.borders(&[0, 1]);
    let names = |values: Vec<usize>| {
        values
            .into_iter()
            .map(|v| model.values[v].name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(inputs), ["x"]);
    assert_eq!(names(outputs), ["a"]);
}
