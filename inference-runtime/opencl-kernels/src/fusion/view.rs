//! A graph as patterns look at it: who produces a value, who reads it, what is constant.

use crate::ir::{Graph, Node, ValueId};
use crate::tensor::HostTensor;

/// A graph with its producers and readers.
#[derive(Debug)]
pub(crate) struct View<'g> {
    graph: &'g Graph,
    producers: Vec<Option<usize>>,
    readers: Vec<Vec<usize>>,
    uses: Vec<usize>,
}

impl<'g> View<'g> {
    /// Looks at a graph.
    pub(crate) fn new(graph: &'g Graph) -> Self {
        let mut producers = vec![None; graph.values.len()];
        let mut readers = vec![Vec::new(); graph.values.len()];
        for (i, node) in graph.nodes.iter().enumerate() {
            for id in node.outputs.iter().flatten() {
                producers[id.0 as usize] = Some(i);
            }
            for id in node.inputs.iter().flatten() {
                readers[id.0 as usize].push(i);
            }
        }
        Self {
            graph,
            producers,
            readers,
            uses: graph.uses(),
        }
    }

    /// The node at an index.
    pub(crate) fn node(&self, i: usize) -> &'g Node {
        &self.graph.nodes[i]
    }

    /// The node at an index, if it is this operator of ONNX's own domain.
    pub(crate) fn is(&self, i: usize, op_type: &str) -> Option<&'g Node> {
        let node = self.node(i);
        (node.domain.is_empty() && node.op_type == op_type).then_some(node)
    }

    /// The node that produces a value, if it is this operator.
    pub(crate) fn producer(&self, value: ValueId, op_type: &str) -> Option<(usize, &'g Node)> {
        let i = self.producers[value.0 as usize]?;
        Some((i, self.is(i, op_type)?))
    }

    /// How many node inputs and graph outputs read a value.
    pub(crate) fn uses(&self, value: ValueId) -> usize {
        self.uses[value.0 as usize]
    }

    /// The one node that reads a value, if nothing else does.
    pub(crate) fn only_reader(&self, value: ValueId) -> Option<usize> {
        match (&self.readers[value.0 as usize][..], self.uses(value)) {
            (&[reader], 1) => Some(reader),
            _ => None,
        }
    }

    /// A constant's value.
    pub(crate) fn constant(&self, value: ValueId) -> Option<&'g HostTensor> {
        self.graph.constants.get(&value)
    }

    /// A constant float of one element.
    pub(crate) fn scalar(&self, value: ValueId) -> Option<f32> {
        // The count first: most constants are weights, too large to convert just to see that there are many.
        let tensor = self
            .constant(value)
            .filter(|tensor| tensor.ty().elements() == 1)?;
        tensor.to_f32()?.first().copied()
    }

    /// Whether a value is a constant or an input of the graph: there before any node has run.
    pub(crate) fn is_early(&self, value: ValueId) -> bool {
        self.producers[value.0 as usize].is_none()
    }

    /// Number of axes, if known.
    pub(crate) fn rank(&self, value: ValueId) -> Option<usize> {
        self.graph.info(value).rank()
    }

    /// Whether both values hold float32.
    pub(crate) fn is_f32(&self, value: ValueId) -> bool {
        self.graph.info(value).dtype == crate::tensor::DType::F32
    }

    /// The extent of the last axis, if known.
    pub(crate) fn last_extent(&self, value: ValueId) -> Option<usize> {
        *self.graph.info(value).dims.as_ref()?.last()?
    }

    /// Whether two values have as many axes and no two known extents that differ.
    pub(crate) fn may_have_equal_shapes(&self, a: ValueId, b: ValueId) -> bool {
        let (Some(a), Some(b)) = (&self.graph.info(a).dims, &self.graph.info(b).dims) else {
            return false;
        };
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_none() || b.is_none() || a == b)
    }

    /// The other operand of a two-operand node.
    pub(crate) fn other_operand(node: &Node, one: ValueId) -> Option<ValueId> {
        match (node.input(0)?, node.input(1)?) {
            (a, b) if a == one => Some(b),
            (a, b) if b == one => Some(a),
            _ => None,
        }
    }

    /// Whether a node normalises or reduces over exactly the last axis: `axis`/`axes` as attribute or constant input 1.
    pub(crate) fn reduces_last_axis(&self, node: &Node, of: ValueId) -> bool {
        let Some(rank) = self.rank(of) else { return false };
        let axes = match node.attributes.ints("axes") {
            Some(axes) => axes.to_vec(),
            None => match node.input(1).and_then(|axes| self.constant(axes)?.to_i64()) {
                Some(axes) => axes,
                None => return false,
            },
        };
        let keeps = node.attributes.int("keepdims").unwrap_or(1) == 1;
        keeps && matches!(axes[..], [axis] if is_last(axis, rank))
    }
}

/// Whether an axis, counted from either end, is the last of `rank` axes.
pub(crate) fn is_last(axis: i64, rank: usize) -> bool {
    axis == -1 || usize::try_from(axis).is_ok_and(|axis| axis + 1 == rank)
}

/// Whether two floats are the same up to how an exporter wrote them down.
pub(crate) fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-4 * b.abs()
}
