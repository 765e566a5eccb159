//! `MatMul`, `Gemm` or `Conv`, and what follows it element by element → `MatMulEpilogue`, `ConvEpilogue`.
//!
//! `y = activation(alpha · A @ B + bias + residual)` is stored once instead of being read and written after each step.

use super::activation;
use super::{Input, Rewrite, View, node_in_place_of};
use crate::ir::{Attribute, Attributes, Node, ValueId};
use crate::tensor::HostTensor;

/// A chain that grows from the producer towards the graph's end.
struct Chain {
    op: &'static str,
    nodes: Vec<usize>,
    /// The value at the chain's end.
    value: ValueId,
    operands: [Input; 2],
    bias: Input,
    residual: Input,
    attributes: Attributes,
}

/// The longest chain from the node at `at`: batch normalisation (Conv), bias, residual, activation.
pub(super) fn find(view: &View<'_>, at: usize) -> Option<Rewrite> {
    let mut chain = matmul(view, at)
        .or_else(|| gemm(view, at))
        .or_else(|| conv(view, at))?;
    let started = chain.nodes.len();
    chain.take_batch_norm(view);
    chain.take_bias(view);
    chain.take_residual(view);
    chain.take_activation(view);
    if chain.nodes.len() == started {
        return None;
    }
    let place = *chain.nodes.last()?;
    let mut node = node_in_place_of(view.node(place), Node::FUSED, chain.op, 1);
    node.name.clone_from(&view.node(at).name);
    node.attributes = chain.attributes;
    let [a, b] = chain.operands;
    Some(Rewrite {
        remove: chain.nodes,
        place,
        node,
        inputs: vec![a, b, chain.bias, chain.residual],
    })
}

fn matmul(view: &View<'_>, at: usize) -> Option<Chain> {
    let node = view.is(at, "MatMul")?;
    let (a, b) = (node.input(0)?, node.input(1)?);
    (view.rank(a)? >= 2 && view.rank(b)? >= 2 && view.is_f32(a)).then(|| Chain {
        op: "MatMulEpilogue",
        nodes: vec![at],
        value: node.output(0).unwrap_or(a),
        operands: [Input::Value(a), Input::Value(b)],
        bias: Input::Absent,
        residual: Input::Absent,
        attributes: Attributes::default(),
    })
}

/// A Gemm whose C is a plain bias row, or absent.
fn gemm(view: &View<'_>, at: usize) -> Option<Chain> {
    let node = view.is(at, "Gemm")?;
    let (a, b) = (node.input(0)?, node.input(1)?);
    let bias = match node.input(2) {
        None => Input::Absent,
        Some(c) => {
            let is_row = view.rank(c)? == 1 && view.last_extent(c)? == view.last_extent(node.output(0)?)?;
            if !is_row
                || node
                    .attributes
                    .float("beta")
                    .is_some_and(|beta| beta.to_bits() != 1_f32.to_bits())
            {
                return None;
            }
            Input::Value(c)
        }
    };
    let mut attributes = Attributes::default();
    for name in ["transA", "transB", "alpha"] {
        if let Some(value) = node.attributes.get(name) {
            attributes.set(name, value.clone());
        }
    }
    view.is_f32(a).then(|| Chain {
        op: "MatMulEpilogue",
        nodes: vec![at],
        value: node.output(0).unwrap_or(a),
        operands: [Input::Value(a), Input::Value(b)],
        bias,
        residual: Input::Absent,
        attributes,
    })
}

fn conv(view: &View<'_>, at: usize) -> Option<Chain> {
    let node = view.is(at, "Conv")?;
    let (x, w) = (node.input(0)?, node.input(1)?);
    view.is_f32(x).then(|| Chain {
        op: "ConvEpilogue",
        nodes: vec![at],
        value: node.output(0).unwrap_or(x),
        operands: [Input::Value(x), Input::Value(w)],
        bias: node.input(2).map_or(Input::Absent, Input::Value),
        residual: Input::Absent,
        attributes: node.attributes.clone(),
    })
}

impl Chain {
    /// The next node, if it is the only one that reads the chain's value.
    fn next<'g>(&self, view: &View<'g>, op_type: &str) -> Option<(usize, &'g Node)> {
        let i = view.only_reader(self.value)?;
        Some((i, view.is(i, op_type)?))
    }

    fn take(&mut self, i: usize, node: &Node) {
        self.nodes.push(i);
        self.value = node.outputs[0].expect("a node that is read has an output");
    }

    /// Folds inference-time batch normalisation with constant parameters into a convolution's constants.
    fn take_batch_norm(&mut self, view: &View<'_>) {
        if self.op != "ConvEpilogue" {
            return;
        }
        let Some((i, node)) = self.next(view, "BatchNormalization") else {
            return;
        };
        let trains = node.attributes.int("training_mode").unwrap_or(0) != 0
            || node.outputs.iter().skip(1).any(Option::is_some);
        let Some((weights, bias)) = (!trains).then(|| self.folded(view, node)).flatten() else {
            return;
        };
        self.operands[1] = Input::Constant("weights", weights);
        self.bias = Input::Constant("bias", bias);
        self.take(i, node);
    }

    /// `w' = w · s`, `b' = (b − mean) · s + beta` with `s = gamma / √(variance + epsilon)` per output channel.
    fn folded(&self, view: &View<'_>, batch_norm: &Node) -> Option<(HostTensor, HostTensor)> {
        let Input::Value(w) = self.operands[1] else {
            return None;
        };
        let weights = view.constant(w)?;
        let channels = *weights.shape().first()?;
        let parameter = |i: usize| {
            view.constant(batch_norm.input(i)?)?
                .to_f32()
                .filter(|p| p.len() == channels)
        };
        let (gamma, beta, mean, variance) = (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
        let bias = match &self.bias {
            Input::Absent => vec![0.0; channels],
            Input::Value(b) => view.constant(*b)?.to_f32()?,
            Input::Constant(..) => return None,
        };
        let epsilon = batch_norm.attributes.float("epsilon").unwrap_or(1e-5);
        let scale: Vec<f32> = gamma
            .iter()
            .zip(&variance)
            .map(|(g, v)| g / (v + epsilon).sqrt())
            .collect();
        let per_channel = weights.shape()[1..].iter().product::<usize>().max(1);
        let old = weights.to_f32()?;
        let new: Vec<f32> = old
            .iter()
            .enumerate()
            .map(|(i, w)| w * scale[i / per_channel])
            .collect();
        let new_bias: Vec<f32> = (0..channels)
            .map(|c| (bias[c] - mean[c]) * scale[c] + beta[c])
            .collect();
        Some((
            HostTensor::f32(weights.shape().to_vec(), &new),
            HostTensor::f32(vec![channels], &new_bias),
        ))
    }

    /// `MatMul + row`: a constant row as long as the last axis.
    fn take_bias(&mut self, view: &View<'_>) {
        if self.op != "MatMulEpilogue" || !matches!(self.bias, Input::Absent) {
            return;
        }
        let Some((i, add)) = self.next(view, "Add") else {
            return;
        };
        let Some(row) = View::other_operand(add, self.value) else {
            return;
        };
        let fits = view.constant(row).is_some_and(|row| row.shape().len() == 1)
            && view.last_extent(row).is_some()
            && view.last_extent(row) == view.last_extent(self.value);
        if fits {
            self.bias = Input::Value(row);
            self.take(i, add);
        }
    }

    /// `+ residual` of the same shape, as far as is known now.
    fn take_residual(&mut self, view: &View<'_>) {
        let Some((i, add)) = self.next(view, "Add") else {
            return;
        };
        let Some(other) = View::other_operand(add, self.value).filter(|&other| other != self.value) else {
            return;
        };
        if view.constant(other).is_none() && view.may_have_equal_shapes(other, self.value) {
            self.residual = Input::Value(other);
            self.take(i, add);
        }
    }

    fn take_activation(&mut self, view: &View<'_>) {
        let Some(i) = view.only_reader(self.value) else {
            return;
        };
        let Some(activation) = activation::as_attributes(view, view.node(i)) else {
            return;
        };
        for name in activation.names() {
            if let Some(value) = activation.get(name) {
                self.attributes.set(name, Attribute::clone(value));
            }
        }
        self.take(i, view.node(i));
    }
}

#[cfg(test)]
mod tests {
    use crate::fusion::fixture::{Sketch, fused, ops_after};
    use crate::ir::{Attribute, Attributes};

    fn dense(s: &mut Sketch) -> crate::ir::ValueId {
        let x = s.input_dims("x", &[None, None, Some(4)]);
        let w = s.weights("w", &[4, 3]);
        let b = s.weights("b", &[3]);
        let product = s.shaped("MatMul", &[x, w], &[None, None, Some(3)]);
        s.shaped("Add", &[b, product], &[None, None, Some(3)])
    }

    #[test]
    fn bias_residual_and_activation_join_a_matmul() {
        let graph = fused(|s| {
            let biased = dense(s);
            let r = s.input_dims("r", &[None, None, Some(3)]);
            let sum = s.shaped("Add", &[r, biased], &[None, None, Some(3)]);
            let y = s.shaped("Relu", &[sum], &[None, None, Some(3)]);
            s.output(y);
        });
        let [node] = &graph.nodes[..] else {
            panic!("{:?}", graph.nodes)
        };
        assert_eq!((node.op_type.as_str(), node.inputs.len()), ("MatMulEpilogue", 4));
        assert_eq!(node.attributes.string("activation"), Some("Relu"));
    }

    #[test]
    fn a_value_that_others_read_ends_the_chain() {
        let ops = ops_after(|s| {
            let biased = dense(s);
            let y = s.shaped("Relu", &[biased], &[None, None, Some(3)]);
            s.output(y);
            s.output(biased);
        });
        assert_eq!(ops, ["afterglow.fused::MatMulEpilogue", "Relu"]);
    }

    #[test]
    fn a_residual_that_surely_broadcasts_is_not_taken() {
        let ops = ops_after(|s| {
            let biased = dense(s);
            let r = s.input_dims("r", &[None, Some(1), Some(1)]);
            let y = s.shaped("Add", &[biased, r], &[None, None, Some(3)]);
            s.output(y);
        });
        assert_eq!(ops, ["afterglow.fused::MatMulEpilogue", "Add"]);
    }

    #[test]
    fn batch_normalisation_is_folded_into_a_convolutions_constants() {
        let graph = fused(|s| {
            let x = s.input_dims("x", &[None, Some(1), Some(2), Some(2)]);
            let w = s.constant(&[1, 1, 1, 1], &[2.0]);
            let dims = [None, Some(1), Some(2), Some(2)];
            let conv = s.shaped("Conv", &[x, w], &dims);
            let parameters = [3.0, 5.0, 7.0, 4.0].map(|p| s.constant(&[1], &[p]));
            let attributes = Attributes::default().with("epsilon", Attribute::Float(0.0));
            let inputs = [&[conv][..], &parameters].concat();
            let y = s.node_shaped("BatchNormalization", 15, attributes, &inputs, &dims);
            s.output(y);
        });
        let [node] = &graph.nodes[..] else {
            panic!("{:?}", graph.nodes)
        };
        let value = |i: usize| graph.constants[&node.input(i).unwrap()].to_f32().unwrap();
        assert_eq!(
            (value(1), value(2)),
            (vec![3.0], vec![-5.5]),
            "w·3/√4 and (0 − 7)·3/√4 + 5"
        );
    }

    #[test]
    fn two_convolutions_that_meet_in_an_add_share_it_once() {
        let graph = fused(|s| {
            let x = s.input_dims("x", &[None, Some(1), Some(2), Some(2)]);
            let dims = [None, Some(1), Some(2), Some(2)];
            let (w, v) = (s.weights("w", &[1, 1, 1, 1]), s.weights("v", &[1, 1, 1, 1]));
            let a = s.shaped("Conv", &[x, w], &dims);
            let b = s.shaped("Conv", &[x, v], &dims);
            let sum = s.shaped("Add", &[a, b], &dims);
            let y = s.shaped("Relu", &[sum], &dims);
            s.output(y);
        });
        let ops: Vec<&str> = graph.nodes.iter().map(|n| n.op_type.as_str()).collect();
        assert_eq!(ops, ["Conv", "ConvEpilogue"]);
        graph.validate().unwrap();
    }
}
