//! Small graphs whose answers the CPU knows.

use std::sync::Arc;

use crate::ir::{Attribute, Attributes, Graph};
use crate::program::{CompileOptions, Program};
use crate::runtime::{DeviceContext, Executor};
use crate::tensor::{DType, HostTensor, Tolerance, difference, numbers, sample};

/// A graph and its inputs.
pub(super) struct Canary {
    name: &'static str,
    graph: Graph,
    inputs: Vec<HostTensor>,
    tolerance: Tolerance,
}

/// Extents are prime or odd, so that kernels meet the edges of their tiles.
pub(super) fn all() -> Vec<Canary> {
    vec![memory(), matrix_product(), softmax(), reduction(), convolution()]
}

impl Canary {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Says how the device's answer differs from the reference.
    pub(super) fn run(&self, context: &Arc<DeviceContext>) -> Result<(), String> {
        let program =
            Program::compile(self.graph.clone(), &CompileOptions::default()).map_err(|e| e.to_string())?;
        let expected = program.evaluate(&self.inputs).map_err(|e| e.to_string())?;
        let mut executor =
            Executor::new(Arc::clone(context), Arc::new(program)).map_err(|e| e.to_string())?;
        for round in ["first", "second"] {
            let outputs = executor.run_tensors(&self.inputs).map_err(|e| e.to_string())?;
            if let Some(difference) = difference(&outputs, &expected, self.tolerance) {
                return Err(format!("wrong in the {round} run: {difference}"));
            }
        }
        Ok(())
    }
}

/// 4 MiB moved over the link and turned around in device memory: every bit must come back.
fn memory() -> Canary {
    let (rows, columns) = (1024, 1024);
    let bits = numbers(rows * columns, 1).into_iter().map(|x| x.to_bits() as i32);
    let x = HostTensor::i32([rows, columns], &bits.collect::<Vec<_>>());
    let perm = Attributes::default().with("perm", Attribute::Ints(vec![1, 0]));
    one(
        "memory",
        "Transpose",
        13,
        perm,
        vec![x],
        &[columns, rows],
        Tolerance::exact(),
    )
}

fn matrix_product() -> Canary {
    let (m, k, n) = (131, 67, 97);
    let inputs = vec![sample(&[m, k], 2), sample(&[k, n], 3)];
    let tolerance = Tolerance {
        absolute: 1e-4,
        relative: 1e-4,
    };
    one(
        "matrix product",
        "MatMul",
        13,
        Attributes::default(),
        inputs,
        &[m, n],
        tolerance,
    )
}

fn softmax() -> Canary {
    let shape = [61, 257];
    let axis = Attributes::default().with("axis", Attribute::Int(-1));
    one(
        "softmax",
        "Softmax",
        13,
        axis,
        vec![sample(&shape, 4)],
        &shape,
        Tolerance::default(),
    )
}

fn reduction() -> Canary {
    let attributes = Attributes::default()
        .with("axes", Attribute::Ints(vec![-1]))
        .with("keepdims", Attribute::Int(0));
    let tolerance = Tolerance {
        absolute: 1e-4,
        relative: 1e-4,
    };
    one(
        "reduction",
        "ReduceMean",
        13,
        attributes,
        vec![sample(&[7, 10_007], 5)],
        &[7],
        tolerance,
    )
}

fn convolution() -> Canary {
    let attributes = Attributes::default()
        .with("kernel_shape", Attribute::Ints(vec![3, 3]))
        .with("strides", Attribute::Ints(vec![2, 2]))
        .with("pads", Attribute::Ints(vec![1, 1, 1, 1]));
    let inputs = vec![sample(&[1, 13, 29, 31], 6), sample(&[17, 13, 3, 3], 7)];
    let tolerance = Tolerance {
        absolute: 1e-4,
        relative: 1e-4,
    };
    one(
        "convolution",
        "Conv",
        11,
        attributes,
        inputs,
        &[1, 17, 15, 16],
        tolerance,
    )
}

fn one(
    name: &'static str,
    op_type: &str,
    since_version: i32,
    attributes: Attributes,
    inputs: Vec<HostTensor>,
    output: &[usize],
    tolerance: Tolerance,
) -> Canary {
    let mut graph = Graph::new(name);
    let ids: Vec<_> = inputs
        .iter()
        .enumerate()
        .map(|(i, tensor)| {
            let dims: Vec<_> = tensor.shape().iter().copied().map(Some).collect();
            graph.input(format!("input{i}"), tensor.dtype(), &dims)
        })
        .collect();
    let dtype = inputs.first().map_or(DType::F32, HostTensor::dtype);
    let dims = output.iter().copied().map(Some).collect();
    let output = graph.node(op_type, since_version, attributes, &ids, (dtype, Some(dims)));
    graph.outputs.push(output);
    Canary {
        name,
        graph,
        inputs,
        tolerance,
    }
}
