//! Generated graphs: whatever compiles computes on the device what the references compute, fused or not, with static
//! or dynamic extents.

use std::sync::Arc;

use opencl_kernels::ir::{Attribute, Attributes, Graph, ValueId};
use opencl_kernels::runtime::Executor;
use opencl_kernels::tensor::{DType, HostTensor, Tolerance, difference};
use opencl_kernels::testing::{device, tensor};
use opencl_kernels::{CompileOptions, Program};
use proptest::prelude::*;

const TOLERANCE: Tolerance = Tolerance {
    absolute: 1e-3,
    relative: 1e-3,
};

/// A graph over matrices that grows by one node after another.
struct Growing {
    graph: Graph,
    /// Every value so far, with the shape it has in this test's run.
    values: Vec<(ValueId, [usize; 2])>,
    inputs: Vec<HostTensor>,
    dynamic: bool,
}

impl Growing {
    fn new(dynamic: bool) -> Self {
        Self {
            graph: Graph::new("generated"),
            values: Vec::new(),
            inputs: Vec::new(),
            dynamic,
        }
    }

    fn dims(&self, shape: [usize; 2]) -> Vec<Option<usize>> {
        shape
            .iter()
            .map(|&extent| (!self.dynamic).then_some(extent))
            .collect()
    }

    fn input(&mut self, shape: [usize; 2]) {
        let seed = self.values.len() as u64;
        let id = self
            .graph
            .input(format!("input{seed}"), DType::F32, &self.dims(shape));
        self.values.push((id, shape));
        self.inputs.push(tensor(&shape, seed));
    }

    fn constant(&mut self, shape: [usize; 2]) {
        let seed = self.values.len() as u64;
        let id = self
            .graph
            .constant(format!("constant{seed}"), tensor(&shape, 100 + seed));
        self.values.push((id, shape));
    }

    fn ints(&mut self, values: &[i64]) -> ValueId {
        self.graph
            .constant(format!("{values:?}"), HostTensor::i64([values.len()], values))
    }

    fn node(
        &mut self,
        op: &str,
        version: i32,
        attributes: Attributes,
        inputs: &[ValueId],
        shape: [usize; 2],
    ) {
        let dims = Some(self.dims(shape));
        let id = self
            .graph
            .node(op, version, attributes, inputs, (DType::F32, dims));
        self.values.push((id, shape));
    }

    /// Adds the node that these numbers describe, or nothing if it does not fit.
    fn grow(&mut self, op: u8, a: usize, b: usize) {
        let (x, xs) = self.values[a % self.values.len()];
        let (y, ys) = self.values[b % self.values.len()];
        let none = Attributes::default;
        match op % 12 {
            0 => self.node("Relu", 14, none(), &[x], xs),
            1 => self.node("Sigmoid", 13, none(), &[x], xs),
            2 => self.node("Tanh", 13, none(), &[x], xs),
            3..=5 => {
                let fits = (0..2).all(|i| xs[i] == ys[i] || xs[i] == 1 || ys[i] == 1);
                if fits {
                    let shape = [0, 1].map(|i| if xs[i] == 1 { ys[i] } else { xs[i] });
                    self.node(["Add", "Mul", "Sub"][op as usize % 3], 14, none(), &[x, y], shape);
                }
            }
            6 => {
                let perm = none().with("perm", Attribute::Ints(vec![1, 0]));
                self.node("Transpose", 13, perm, &[x], [xs[1], xs[0]]);
            }
            7 if xs[1] == ys[0] => self.node("MatMul", 13, none(), &[x, y], [xs[0], ys[1]]),
            8 if xs[1] == ys[1] => {
                let axis = none().with("axis", Attribute::Int(0));
                self.node("Concat", 13, axis, &[x, y], [xs[0] + ys[0], xs[1]]);
            }
            9 => {
                let (start, end) = (self.ints(&[1]), self.ints(&[i64::MAX]));
                let axis = self.ints(&[0]);
                self.node(
                    "Slice",
                    13,
                    none(),
                    &[x, start, end, axis],
                    [xs[0].saturating_sub(1), xs[1]],
                );
            }
            10 if xs[0] * xs[1] == ys[0] * ys[1] => {
                // An exporter's `x.view_as(y)`: the shape is computed in the graph. 0 means "keep" to Reshape.
                if ys.contains(&0) {
                    return;
                }
                let two = Some(vec![Some(2)]);
                let shape = self.graph.node("Shape", 15, none(), &[y], (DType::I64, two));
                self.node("Reshape", 14, none(), &[x, shape], ys);
            }
            11 => self.node("Softmax", 13, none().with("axis", Attribute::Int(-1)), &[x], xs),
            _ => {}
        }
    }
}

fn run(graph: &Graph, inputs: &[HostTensor], fuse: bool) -> Vec<HostTensor> {
    let program = Program::compile(graph.clone(), &CompileOptions { fuse }).expect("the graph compiles");
    let mut executor = Executor::new(device(), Arc::new(program)).expect("an executor opens");
    let first = executor.run_tensors(inputs).expect("the graph runs");
    assert_eq!(
        executor.run_tensors(inputs).expect("the graph runs"),
        first,
        "a second run"
    );
    first
}

proptest! {
    #[test]
    fn a_generated_graph_runs_as_its_references_say(
        shapes in proptest::collection::vec((0_usize..4, 0_usize..4), 1..3),
        constants in proptest::collection::vec((1_usize..4, 1_usize..4), 1..3),
        nodes in proptest::collection::vec((any::<u8>(), 0_usize..1000, 0_usize..1000), 1..25),
        outputs in proptest::collection::vec(0_usize..1000, 1..4),
        dynamic: bool,
    ) {
        let extent = [0, 1, 2, 5];
        let mut growing = Growing::new(dynamic);
        for (rows, columns) in shapes {
            growing.input([extent[rows], extent[columns]]);
        }
        for (rows, columns) in constants {
            growing.constant([extent[rows], extent[columns]]);
        }
        for (op, a, b) in nodes {
            growing.grow(op, a, b);
        }
        let last = growing.values.len() - 1;
        for output in std::iter::once(last).chain(outputs) {
            let (id, _) = growing.values[output % growing.values.len()];
            growing.graph.outputs.push(id);
        }
        let (graph, inputs) = (growing.graph, growing.inputs);
        let plain = Program::compile(graph.clone(), &CompileOptions { fuse: false }).expect("the graph compiles");
        let expected = plain.evaluate(&inputs).expect("the references run");
        for fuse in [false, true] {
            let outputs = run(&graph, &inputs, fuse);
            prop_assert_eq!(difference(&outputs, &expected, TOLERANCE), None, "fuse: {}", fuse);
        }
    }
}
