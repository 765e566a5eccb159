//! A compiled graph: rewritten, lowered, checked. Pure: no device is touched.

mod fold;
mod form;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ir::{Graph, Node, ValueId};
use crate::ops::Operand;
use crate::plan::values;
use crate::tensor::{DType, HostTensor, TensorType};

pub(crate) use form::Form;

/// What to do while compiling.
#[derive(Debug, Clone)]
pub struct CompileOptions {
    /// Rewrite the graph into fused operators ([`crate::fusion`]).
    pub fuse: bool,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self { fuse: true }
    }
}

/// A graph whose every node has an operator, and whose shapes can be planned from input shapes alone.
#[derive(Debug)]
pub struct Program {
    /// As fusion rewrote it; absent if fusion found nothing.
    fused: Option<Arc<Form>>,
    /// As it was written: what is planned where a rewrite was too optimistic about dynamic extents.
    plain: Arc<Form>,
}

impl Program {
    /// Validates, rewrites and lowers a graph, and checks that its shapes follow from its input shapes. If all input
    /// shapes are static, they are inferred once, so that a graph that can never run is refused here.
    pub fn compile(graph: Graph, options: &CompileOptions) -> Result<Self> {
        graph.validate()?;
        let graph = fold::constants(graph);
        let fused = options.fuse.then(|| crate::fusion::fuse(graph.clone()));
        // A rewrite adds or removes nodes or constants, or it did nothing.
        let changed = |fused: &Graph| fused.nodes != graph.nodes;
        let fused = fused.filter(changed).and_then(|fused| match Form::lower(fused, "fused.") {
            Ok(form) => Some(Arc::new(form)),
            Err(error) => {
                tracing::debug!(graph = graph.name, %error, "the fused graph does not lower, using it as written");
                None
            }
        });
        let program = Self {
            fused,
            plain: Arc::new(Form::lower(graph, "")?),
        };
        let graph = program.plain.graph();
        let shapes: Option<Vec<Vec<usize>>> = graph
            .inputs
            .iter()
            .map(|&id| graph.info(id).static_shape())
            .collect();
        if let Some(shapes) = shapes {
            program.infer(&shapes.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        }
        Ok(program)
    }

    /// The graph that is planned first: rewritten, unless nothing could be.
    pub fn graph(&self) -> &Graph {
        self.fused.as_ref().unwrap_or(&self.plain).graph()
    }

    /// The operators' names in order, with the domain where it is not ONNX's own.
    pub fn ops(&self) -> impl Iterator<Item = String> + '_ {
        self.graph().nodes.iter().map(Node::qualified_op)
    }

    /// The outputs' element types.
    pub fn output_dtypes(&self) -> Vec<DType> {
        let graph = self.graph();
        graph.outputs.iter().map(|&id| graph.info(id).dtype).collect()
    }

    /// The outputs' types for concrete input shapes; an error says which node does not fit and why.
    pub fn infer(&self, input_shapes: &[&[usize]]) -> Result<Vec<TensorType>> {
        self.with_form(|form| {
            let values = values::infer(form, input_shapes)?;
            let ty = |id: &ValueId| {
                let value = values.get(*id);
                value.expect("validated: every output is produced").ty.clone()
            };
            Ok(form.graph().outputs.iter().map(ty).collect())
        })
    }

    /// Computes the outputs with the operators' CPU references: slow, obviously right, what devices are compared with.
    pub fn evaluate(&self, inputs: &[HostTensor]) -> Result<Vec<HostTensor>> {
        self.with_form(|form| evaluate(form, inputs))
    }

    /// Tries the fused form, and where its shapes do not fit, the form as written: its error is the one that counts.
    pub(crate) fn with_form<T>(&self, mut with: impl FnMut(&Arc<Form>) -> Result<T>) -> Result<T> {
        if let Some(fused) = &self.fused {
            match with(fused) {
                Err(Error::Invalid { node, op, reason }) => {
                    tracing::debug!(
                        node,
                        op,
                        reason,
                        "a rewrite does not fit these shapes, using the graph as written"
                    );
                }
                result => return result,
            }
        }
        with(&self.plain)
    }
}

fn evaluate(form: &Form, inputs: &[HostTensor]) -> Result<Vec<HostTensor>> {
    let graph = form.graph();
    let shapes: Vec<&[usize]> = inputs.iter().map(HostTensor::shape).collect();
    values::input_types(form, &shapes)?;
    let mut tensors: Vec<Option<HostTensor>> = vec![None; graph.values.len()];
    for (id, tensor) in &graph.constants {
        tensors[id.0 as usize] = Some(tensor.clone());
    }
    for (id, tensor) in graph.inputs.iter().zip(inputs) {
        tensors[id.0 as usize] = Some(tensor.clone());
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        let operator = form.operator(index);
        let read: Vec<Option<&HostTensor>> = node
            .inputs
            .iter()
            .map(|id| id.and_then(|id| tensors[id.0 as usize].as_ref()))
            .collect();
        let operands: Vec<_> = read
            .iter()
            .map(|t| {
                t.map(|t| Operand {
                    ty: t.ty(),
                    known: Some(t),
                })
            })
            .collect();
        let types = operator
            .infer(&operands)
            .map_err(|reason| form.invalid(index, reason))?;
        let results = operator
            .evaluate(&read)
            .map_err(|reason| form.invalid(index, reason))?;
        for ((id, ty), tensor) in node.outputs.iter().zip(&types).zip(results) {
            if tensor.ty() != ty {
                return Err(form.invalid(index, format!("computes {}, but inferred {ty}", tensor.ty())));
            }
            if let Some(id) = id {
                tensors[id.0 as usize] = Some(tensor);
            }
        }
    }
    let output = |id: &ValueId| {
        tensors[id.0 as usize].clone().ok_or_else(|| Error::Malformed {
            graph: graph.name.clone(),
            reason: format!("output '{}' was not computed", graph.info(*id).name),
        })
    };
    graph.outputs.iter().map(output).collect()
}
