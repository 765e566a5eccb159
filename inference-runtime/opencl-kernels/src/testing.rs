//! Help for tests of operators and graphs: runs them on this machine's OpenCL device and compares with the operators'
//! CPU references.
//!
//! These functions panic, as tests want it; nothing else may use them.

use std::sync::{Arc, OnceLock};

use crate::ir::{Attribute, Attributes, Graph, Node};
use crate::program::{CompileOptions, Program};
use crate::runtime::{DeviceContext, DeviceKind, DeviceTraits, DiskCache, Executor, default_device};
use crate::tensor::{DType, HostTensor};

pub use crate::tensor::{Tolerance, difference, numbers, sample as tensor};

/// The device that tests run on, opened once per process.
///
/// # Panics
/// If there is none: a test without a device must not pass.
pub fn device() -> Arc<DeviceContext> {
    static DEVICE: OnceLock<Arc<DeviceContext>> = OnceLock::new();
    let open = || {
        let device = default_device().expect("tests need an OpenCL device");
        DeviceContext::open(device).expect("the device opens")
    };
    Arc::clone(DEVICE.get_or_init(open))
}

/// The same device, planned for as if it were of this kind: a CPU runtime has local memory too, so that the kernels
/// for GPUs can be tested on it.
///
/// # Panics
/// If there is no device.
pub fn device_as(kind: DeviceKind) -> Arc<DeviceContext> {
    static GPU: OnceLock<Arc<DeviceContext>> = OnceLock::new();
    static CPU: OnceLock<Arc<DeviceContext>> = OnceLock::new();
    let open = || {
        let device = default_device().expect("tests need an OpenCL device");
        let traits = DeviceTraits {
            kind,
            ..device.traits()
        };
        DeviceContext::open_as(device, DiskCache::in_default_folder(), traits).expect("the device opens")
    };
    let slot = match kind {
        DeviceKind::Gpu => &GPU,
        DeviceKind::Cpu => &CPU,
    };
    Arc::clone(slot.get_or_init(open))
}

/// Runs a graph as it is (without fusion) on the device, compares with the reference, and returns the outputs.
///
/// # Panics
/// If anything fails or differs.
pub fn check(graph: Graph, inputs: &[HostTensor]) -> Vec<HostTensor> {
    check_within(graph, inputs, Tolerance::default())
}

/// Like [`check`], with another tolerance.
///
/// # Panics
/// If anything fails or differs.
pub fn check_within(graph: Graph, inputs: &[HostTensor], tolerance: Tolerance) -> Vec<HostTensor> {
    check_on(device(), graph, inputs, tolerance)
}

/// Like [`check_within`], on this device.
///
/// # Panics
/// If anything fails or differs.
pub fn check_on(
    device: Arc<DeviceContext>,
    graph: Graph,
    inputs: &[HostTensor],
    tolerance: Tolerance,
) -> Vec<HostTensor> {
    let program = Program::compile(graph, &CompileOptions { fuse: false }).expect("the graph compiles");
    let expected = program.evaluate(inputs).expect("the reference runs");
    let outputs = Executor::new(device, Arc::new(program))
        .and_then(|mut executor| executor.run_tensors(inputs))
        .expect("the graph runs");
    assert_close(&outputs, &expected, tolerance);
    outputs
}

/// Fuses a graph, runs it on the device, compares with the reference of the graph before fusion, and returns the
/// fused graph's operators.
///
/// # Panics
/// If anything fails or differs.
pub fn check_fused(graph: Graph, inputs: &[HostTensor], tolerance: Tolerance) -> Vec<String> {
    let plain = Program::compile(graph.clone(), &CompileOptions { fuse: false }).expect("the graph compiles");
    let expected = plain.evaluate(inputs).expect("the reference runs");
    let fused = Program::compile(graph, &CompileOptions::default()).expect("the fused graph compiles");
    let ops = fused.ops().collect();
    let evaluated = fused.evaluate(inputs).expect("the fused reference runs");
    assert_close(&evaluated, &expected, tolerance);
    assert_close(
        &run(fused, inputs).expect("the fused graph runs"),
        &expected,
        tolerance,
    );
    ops
}

/// Runs a program once on the test device.
pub fn run(program: Program, inputs: &[HostTensor]) -> crate::Result<Vec<HostTensor>> {
    Executor::new(device(), Arc::new(program))?.run_tensors(inputs)
}

/// Compares tensors like [`difference`].
///
/// # Panics
/// At the first difference, with its place.
pub fn assert_close(actual: &[HostTensor], expected: &[HostTensor], tolerance: Tolerance) {
    if let Some(difference) = difference(actual, expected, tolerance) {
        panic!("{difference}");
    }
}

/// One operator with its inputs: `Case::new("Softmax", 13).attr("axis", Attribute::Int(-1)).input(x).check()`.
#[derive(Debug, Clone)]
pub struct Case {
    node: Node,
    inputs: Vec<Given>,
    outputs: Vec<Option<(DType, usize)>>,
    tolerance: Tolerance,
}

#[derive(Debug, Clone)]
enum Given {
    Input(HostTensor),
    Constant(HostTensor),
    Absent,
}

impl Case {
    /// An operator of ONNX's own domain, in the form of this operator-set version.
    pub fn new(op_type: &str, since_version: i32) -> Self {
        let node = Node {
            name: "case".to_owned(),
            domain: String::new(),
            op_type: op_type.to_owned(),
            since_version,
            attributes: Attributes::default(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        Self {
            node,
            inputs: Vec::new(),
            outputs: Vec::new(),
            tolerance: Tolerance::default(),
        }
    }

    /// An operator that fusion makes.
    pub fn fused(op_type: &str) -> Self {
        let mut case = Self::new(op_type, 1);
        Node::FUSED.clone_into(&mut case.node.domain);
        case
    }

    /// Adds an attribute.
    #[must_use]
    pub fn attr(mut self, name: &str, value: Attribute) -> Self {
        self.node.attributes.set(name, value);
        self
    }

    /// Adds an input that a request brings.
    #[must_use]
    pub fn input(mut self, tensor: HostTensor) -> Self {
        self.inputs.push(Given::Input(tensor));
        self
    }

    /// Adds an input that is a constant of the graph.
    #[must_use]
    pub fn constant(mut self, tensor: HostTensor) -> Self {
        self.inputs.push(Given::Constant(tensor));
        self
    }

    /// Leaves an optional input out.
    #[must_use]
    pub fn absent(mut self) -> Self {
        self.inputs.push(Given::Absent);
        self
    }

    /// Declares the next output's element type and number of axes. A case without any has one output with the first
    /// input's type and rank.
    #[must_use]
    pub fn output(mut self, dtype: DType, rank: usize) -> Self {
        self.outputs.push(Some((dtype, rank)));
        self
    }

    /// Leaves an optional output out.
    #[must_use]
    pub fn no_output(mut self) -> Self {
        self.outputs.push(None);
        self
    }

    /// Allows another distance from the reference.
    #[must_use]
    pub fn within(mut self, absolute: f32, relative: f32) -> Self {
        self.tolerance = Tolerance { absolute, relative };
        self
    }

    /// The case as a graph, with dynamic or static extents, and the tensors that a run brings.
    pub fn graph(&self, dynamic: bool) -> (Graph, Vec<HostTensor>) {
        let mut graph = Graph::new("case");
        let mut node = self.node.clone();
        let mut tensors = Vec::new();
        for (i, given) in self.inputs.iter().enumerate() {
            node.inputs.push(match given {
                Given::Input(tensor) => {
                    let dims: Vec<_> = tensor.shape().iter().map(|&d| (!dynamic).then_some(d)).collect();
                    tensors.push(tensor.clone());
                    Some(graph.input(format!("input{i}"), tensor.dtype(), &dims))
                }
                Given::Constant(tensor) => Some(graph.constant(format!("constant{i}"), tensor.clone())),
                Given::Absent => None,
            });
        }
        let mut outputs = self.outputs.clone();
        if outputs.is_empty() {
            let first = self.inputs.iter().find_map(|given| match given {
                Given::Input(tensor) | Given::Constant(tensor) => {
                    Some((tensor.dtype(), tensor.shape().len()))
                }
                Given::Absent => None,
            });
            outputs.push(first);
        }
        for (i, output) in outputs.into_iter().enumerate() {
            let output =
                output.map(|(dtype, rank)| graph.value(format!("output{i}"), dtype, Some(vec![None; rank])));
            graph.outputs.extend(output);
            node.outputs.push(output);
        }
        graph.nodes.push(node);
        (graph, tensors)
    }

    /// Runs the case on the device with static and with dynamic extents, compares with the operator's reference and
    /// returns the outputs.
    ///
    /// # Panics
    /// If anything fails or differs.
    pub fn check(&self) -> Vec<HostTensor> {
        let (graph, inputs) = self.graph(true);
        check_within(graph, &inputs, self.tolerance);
        let (graph, inputs) = self.graph(false);
        check_within(graph, &inputs, self.tolerance)
    }

    /// Like [`check`](Self::check), with the kernels that a device of this kind gets.
    ///
    /// # Panics
    /// If anything fails or differs.
    pub fn check_as(&self, kind: DeviceKind) -> Vec<HostTensor> {
        let (graph, inputs) = self.graph(true);
        check_on(device_as(kind), graph, &inputs, self.tolerance);
        let (graph, inputs) = self.graph(false);
        check_on(device_as(kind), graph, &inputs, self.tolerance)
    }

    /// Why the case cannot be compiled or run.
    ///
    /// # Panics
    /// If it can.
    pub fn refusal(&self) -> crate::Error {
        let (graph, inputs) = self.graph(true);
        let compiled = Program::compile(graph, &CompileOptions { fuse: false });
        match compiled.and_then(|program| run(program, &inputs)) {
            Ok(outputs) => panic!("should be refused, gives {outputs:?}"),
            Err(error) => error,
        }
    }
}
