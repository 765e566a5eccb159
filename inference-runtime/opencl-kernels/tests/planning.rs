//! What planning decides, without any device.

use opencl_kernels::ir::{Attribute, Attributes, Graph, ValueId};
use opencl_kernels::plan::{OutputSource, Plan, Step, StorageKind};
use opencl_kernels::runtime::{DeviceKind, DeviceTraits};
use opencl_kernels::tensor::{DType, HostTensor};
use opencl_kernels::{CompileOptions, Error, Program};

const DEVICE: DeviceTraits = DeviceTraits {
    kind: DeviceKind::Gpu,
    compute_units: 36,
    max_work_group: 256,
    local_memory: 64 << 10,
    max_allocation: 2 << 30,
    alignment: 512,
};

type Dims = Option<Vec<Option<usize>>>;

fn compile(graph: Graph) -> Program {
    Program::compile(graph, &CompileOptions::default()).expect("the graph compiles")
}

fn transpose(graph: &mut Graph, x: ValueId, dims: Dims) -> ValueId {
    let perm = Attributes::default().with("perm", Attribute::Ints(vec![1, 0]));
    graph.node("Transpose", 13, perm, &[x], (DType::F32, dims))
}

fn plain(graph: &mut Graph, op: &str, version: i32, inputs: &[ValueId], output: (DType, Dims)) -> ValueId {
    graph.node(op, version, Attributes::default(), inputs, output)
}

const MATRIX: [Option<usize>; 2] = [None, None];

#[test]
fn shape_arithmetic_disappears() {
    let mut graph = Graph::new("reshape like another");
    let x = graph.input("x", DType::F32, &MATRIX);
    let like = graph.input("like", DType::F32, &MATRIX);
    let shape = plain(
        &mut graph,
        "Shape",
        15,
        &[like],
        (DType::I64, Some(vec![Some(2)])),
    );
    let y = plain(
        &mut graph,
        "Reshape",
        14,
        &[x, shape],
        (DType::F32, Some(MATRIX.to_vec())),
    );
    let y = transpose(&mut graph, y, Some(MATRIX.to_vec()));
    graph.outputs.push(y);
    let program = compile(graph);
    let plan = Plan::make(&program, &[&[4, 6], &[8, 3]], &DEVICE).unwrap();
    assert_eq!(plan.outputs[0].ty.shape, [3, 8]);
    assert_eq!(
        plan.steps.len(),
        1,
        "Shape is folded, Reshape shares memory: {:?}",
        plan.steps
    );
    assert!(
        plan.inputs[1].storage.is_none(),
        "'like' is not uploaded: only its shape counts"
    );
    let error = Plan::make(&program, &[&[4, 6], &[5, 5]], &DEVICE).unwrap_err();
    assert!(
        matches!(&error, Error::Invalid { op, .. } if op == "Reshape"),
        "{error}"
    );
}

#[test]
fn what_depends_on_constants_only_is_computed_while_compiling() {
    let mut graph = Graph::new("constants");
    let x = graph.input("x", DType::F32, &MATRIX);
    let c = graph.constant("c", HostTensor::f32([2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let turned = transpose(&mut graph, c, Some(MATRIX.to_vec()));
    let axis = Attributes::default().with("axis", Attribute::Int(0));
    let y = graph.node(
        "Concat",
        13,
        axis,
        &[x, turned],
        (DType::F32, Some(MATRIX.to_vec())),
    );
    graph.outputs.extend([y, turned]);
    let program = compile(graph);
    assert_eq!(program.ops().collect::<Vec<_>>(), ["Concat"]);
    let plan = Plan::make(&program, &[&[1, 2]], &DEVICE).unwrap();
    let OutputSource::Known(tensor) = &plan.outputs[1].source else {
        panic!("{:?}", plan.outputs[1]);
    };
    assert_eq!(tensor.to_f32().unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
}

#[test]
fn nodes_that_nobody_needs_are_not_recorded() {
    let mut graph = Graph::new("dead ends");
    let x = graph.input("x", DType::F32, &MATRIX);
    let dead = transpose(&mut graph, x, Some(MATRIX.to_vec()));
    let _deader = transpose(&mut graph, dead, Some(MATRIX.to_vec()));
    // Only the shape of this one is needed, and a shape needs no launch.
    let turned = transpose(&mut graph, x, Some(MATRIX.to_vec()));
    let shape = plain(
        &mut graph,
        "Shape",
        15,
        &[turned],
        (DType::I64, Some(vec![Some(2)])),
    );
    graph.outputs.push(shape);
    let plan = Plan::make(&compile(graph), &[&[4, 6]], &DEVICE).unwrap();
    assert!(plan.steps.is_empty() && plan.storages.iter().all(|s| matches!(s.kind, StorageKind::Arena)));
    assert_eq!(plan.layout.bytes, 0);
}

#[test]
fn tensors_without_elements_need_no_launch() {
    let mut graph = Graph::new("empty");
    let x = graph.input("x", DType::F32, &MATRIX);
    let y = transpose(&mut graph, x, Some(MATRIX.to_vec()));
    graph.outputs.push(y);
    let plan = Plan::make(&compile(graph), &[&[0, 6]], &DEVICE).unwrap();
    assert!(plan.steps.is_empty());
    assert_eq!(plan.outputs[0].ty.shape, [6, 0]);
}

#[test]
fn a_plan_is_the_same_every_time() {
    let mut graph = Graph::new("turning");
    let mut value = graph.input("x", DType::F32, &MATRIX);
    for _ in 0..20 {
        value = transpose(&mut graph, value, Some(MATRIX.to_vec()));
    }
    graph.outputs.push(value);
    let program = compile(graph);
    let text = || format!("{:?}", Plan::make(&program, &[&[40, 60]], &DEVICE).unwrap());
    assert_eq!(text(), text());
}

#[test]
fn a_shape_that_comes_with_the_request_is_not_supported() {
    let mut graph = Graph::new("dynamic reshape");
    let x = graph.input("x", DType::F32, &MATRIX);
    let shape = graph.input("shape", DType::I64, &[Some(2)]);
    let y = plain(
        &mut graph,
        "Reshape",
        14,
        &[x, shape],
        (DType::F32, Some(MATRIX.to_vec())),
    );
    graph.outputs.push(y);
    let error = Program::compile(graph, &CompileOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)));
    assert_eq!(
        error.to_string(),
        "Reshape 'Reshape_0' is not supported: input 1 ('shape') depends on the request's data"
    );
}

#[test]
fn static_shapes_that_do_not_fit_are_refused_while_compiling() {
    let mut graph = Graph::new("misfit");
    let x = graph.input("x", DType::F32, &[Some(4), Some(6)]);
    let shape = graph.constant("shape", HostTensor::i64([2], &[5, 5]));
    let y = plain(
        &mut graph,
        "Reshape",
        14,
        &[x, shape],
        (DType::F32, Some(MATRIX.to_vec())),
    );
    graph.outputs.push(y);
    let error = Program::compile(graph, &CompileOptions::default()).unwrap_err();
    assert!(
        matches!(&error, Error::Invalid { op, .. } if op == "Reshape"),
        "{error}"
    );
}

#[test]
fn a_graph_out_of_order_is_malformed() {
    let mut graph = Graph::new("backwards");
    let x = graph.input("x", DType::F32, &MATRIX);
    let y = transpose(&mut graph, x, Some(MATRIX.to_vec()));
    let z = transpose(&mut graph, y, Some(MATRIX.to_vec()));
    graph.outputs.push(z);
    graph.nodes.swap(0, 1);
    let error = Program::compile(graph, &CompileOptions::default()).unwrap_err();
    assert!(
        matches!(&error, Error::Malformed { graph, .. } if graph == "backwards"),
        "{error}"
    );
}

#[test]
fn a_type_that_the_graph_declares_wrongly_is_refused() {
    let mut graph = Graph::new("lying");
    let x = graph.input("x", DType::F32, &[Some(2), Some(2)]);
    let y = plain(
        &mut graph,
        "Transpose",
        13,
        &[x],
        (DType::I32, Some(MATRIX.to_vec())),
    );
    graph.outputs.push(y);
    let error = Program::compile(graph, &CompileOptions::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is int32 in the graph, but computed as float32"),
        "{error}"
    );
}

#[test]
fn a_plan_larger_than_the_device_allows_is_refused_with_numbers() {
    let mut graph = Graph::new("large");
    let x = graph.input("x", DType::F32, &MATRIX);
    let y = transpose(&mut graph, x, Some(MATRIX.to_vec()));
    graph.outputs.push(y);
    let error = Plan::make(&compile(graph), &[&[1 << 15, 1 << 14]], &DEVICE).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the temporary memory of 'large' needs 4294967296 bytes of device memory, one buffer on this GPU allows 2147483648"
    );
}

#[test]
fn every_launch_lies_in_storages_that_have_a_place() {
    let mut graph = Graph::new("places");
    let x = graph.input("x", DType::F32, &MATRIX);
    let c = graph.constant("c", HostTensor::f32([1, 6], &[0.5; 6]));
    let axis = Attributes::default().with("axis", Attribute::Int(0));
    let y = graph.node("Concat", 13, axis, &[x, c], (DType::F32, Some(MATRIX.to_vec())));
    let y = transpose(&mut graph, y, Some(MATRIX.to_vec()));
    graph.outputs.push(y);
    let plan = Plan::make(&compile(graph), &[&[4, 6]], &DEVICE).unwrap();
    for id in plan.steps.iter().flat_map(Step::storages) {
        let placed = plan.layout.offset(id).is_some();
        let in_arena = matches!(plan.storages[id.0 as usize].kind, StorageKind::Arena);
        assert_eq!(placed, in_arena);
    }
}
