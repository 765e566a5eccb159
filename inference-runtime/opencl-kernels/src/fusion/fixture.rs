//! Graphs for the patterns' tests, sketched in a few words.

use std::cell::RefCell;

use super::fuse;
use crate::ir::{Attributes, Graph, ValueId};
use crate::tensor::{DType, HostTensor};

/// A graph being drawn. Constants may be made inside an argument list, hence the cell.
#[derive(Default)]
pub(super) struct Sketch(RefCell<Graph>);

type Dims = [Option<usize>];

impl Sketch {
    /// An input with dynamic extents but the last, which is 8.
    pub(super) fn input(&self, name: &str, rank: usize) -> ValueId {
        let mut dims = vec![None; rank];
        dims[rank - 1] = Some(8);
        self.input_dims(name, &dims)
    }

    pub(super) fn input_dims(&self, name: &str, dims: &Dims) -> ValueId {
        self.0.borrow_mut().input(name, DType::F32, dims)
    }

    pub(super) fn scalar(&self, value: f32) -> ValueId {
        self.constant(&[], &[value])
    }

    pub(super) fn constant(&self, shape: &[usize], values: &[f32]) -> ValueId {
        self.0
            .borrow_mut()
            .constant("constant", HostTensor::f32(shape.to_vec(), values))
    }

    /// Constants whose values do not matter.
    pub(super) fn weights(&self, name: &str, shape: &[usize]) -> ValueId {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| i as f32).collect();
        self.0
            .borrow_mut()
            .constant(name, HostTensor::f32(shape.to_vec(), &values))
    }

    pub(super) fn unary(&self, op: &str, x: ValueId) -> ValueId {
        let rank = self.0.borrow().info(x).rank().unwrap();
        self.node(op, 13, Attributes::default(), &[x], rank)
    }

    /// A binary operator whose result has the larger of its operands' ranks.
    pub(super) fn binary(&self, op: &str, a: ValueId, b: ValueId) -> ValueId {
        let rank = |v| self.0.borrow().info(v).rank().unwrap();
        let rank = rank(a).max(rank(b));
        self.node(op, 13, Attributes::default(), &[a, b], rank)
    }

    pub(super) fn node(
        &self,
        op: &str,
        since: i32,
        attributes: Attributes,
        inputs: &[ValueId],
        rank: usize,
    ) -> ValueId {
        self.node_shaped(op, since, attributes, inputs, &vec![None; rank])
    }

    pub(super) fn shaped(&self, op: &str, inputs: &[ValueId], dims: &Dims) -> ValueId {
        self.node_shaped(op, 17, Attributes::default(), inputs, dims)
    }

    pub(super) fn node_shaped(
        &self,
        op: &str,
        since: i32,
        attributes: Attributes,
        inputs: &[ValueId],
        dims: &Dims,
    ) -> ValueId {
        self.0
            .borrow_mut()
            .node(op, since, attributes, inputs, (DType::F32, Some(dims.to_vec())))
    }

    pub(super) fn output(&self, value: ValueId) {
        self.0.borrow_mut().outputs.push(value);
    }

    /// The output of the first node of this operator.
    pub(super) fn output_of(&self, op: &str) -> ValueId {
        let graph = self.0.borrow();
        graph
            .nodes
            .iter()
            .find(|n| n.op_type == op)
            .unwrap()
            .output(0)
            .unwrap()
    }
}

/// The graph after fusion; still well-formed.
pub(super) fn fused(draw: impl FnOnce(&mut Sketch)) -> Graph {
    let mut sketch = Sketch::default();
    draw(&mut sketch);
    let graph = sketch.0.into_inner();
    graph.validate().expect("the sketch is well-formed");
    let fused = fuse(graph);
    fused.validate().expect("fusion keeps the graph well-formed");
    fused
}

/// The operators after fusion, in order.
pub(super) fn ops_after(draw: impl FnOnce(&mut Sketch)) -> Vec<String> {
    fused(draw)
        .nodes
        .iter()
        .map(crate::ir::Node::qualified_op)
        .collect()
}
