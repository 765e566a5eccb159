//! Attention's softmax: `Softmax(scale · x + mask)` → `ScaledMaskedSoftmax`.

use super::factors::Factors;
use super::view::is_last;
use super::{Input, Rewrite, View, node_in_place_of};
use crate::ir::{Attribute, Node, ValueId};

/// A softmax over the last axis, with a scale or a mask before it.
pub(super) fn find(view: &View<'_>, at: usize) -> Option<Rewrite> {
    let softmax = view.is(at, "Softmax").filter(|node| node.since_version >= 13)?;
    let input = softmax.input(0)?;
    let rank = view.rank(input)?;
    if !is_last(softmax.attributes.int("axis").unwrap_or(-1), rank) || !view.is_f32(input) {
        return None;
    }
    let (x, scale, mask, inner) = masked(view, input).or_else(|| {
        let (x, scale, nodes) = scaled(view, input)?;
        Some((x, scale, Input::Absent, nodes))
    })?;
    if view.rank(x)? != rank {
        return None;
    }
    let mut node = node_in_place_of(softmax, Node::FUSED, "ScaledMaskedSoftmax", 1);
    node.attributes.set("scale", Attribute::Float(scale));
    Some(Rewrite {
        remove: [inner, vec![at]].concat(),
        place: at,
        node,
        inputs: vec![Input::Value(x), mask],
    })
}

/// `s + mask`: the scores are the operand that is a scaled or a plain product of matrices.
fn masked(view: &View<'_>, value: ValueId) -> Option<(ValueId, f32, Input, Vec<usize>)> {
    let (add_at, add) = view.producer(value, "Add")?;
    [(0, 1), (1, 0)].into_iter().find_map(|(scores, mask)| {
        let (scores, mask) = (add.input(scores)?, add.input(mask)?);
        let (x, scale, nodes) = scaled(view, scores).unwrap_or((scores, 1.0, Vec::new()));
        view.producer(x, "MatMul")?;
        Some((x, scale, Input::Value(mask), [nodes, vec![add_at]].concat()))
    })
}

/// `x` times a constant.
fn scaled(view: &View<'_>, value: ValueId) -> Option<(ValueId, f32, Vec<usize>)> {
    if view.uses(value) != 1 {
        return None;
    }
    let (at, _) = view
        .producer(value, "Mul")
        .or_else(|| view.producer(value, "Div"))?;
    let product = Factors::of(view, at)?;
    let [x] = product.values[..] else { return None };
    product.scaled.then_some((x, product.scale, product.nodes))
}

#[cfg(test)]
mod tests {
    use crate::fusion::fixture::{Sketch, fused, ops_after};
    use crate::ir::ValueId;

    const SCORES: [Option<usize>; 4] = [None, Some(2), None, None];

    fn scores(s: &mut Sketch) -> ValueId {
        let (q, k) = (
            s.input_dims("q", &[None, Some(2), None, Some(8)]),
            s.input_dims("k", &[None, Some(2), Some(8), None]),
        );
        s.shaped("MatMul", &[q, k], &SCORES)
    }

    #[test]
    fn scale_and_mask_join_attentions_softmax() {
        let graph = fused(|s| {
            let scores = scores(s);
            let root = s.scalar(4.0);
            let scaled = s.shaped("Div", &[scores, root], &SCORES);
            let mask = s.input_dims("mask", &[None, Some(1), Some(1), None]);
            let sum = s.shaped("Add", &[scaled, mask], &SCORES);
            let y = s.shaped("Softmax", &[sum], &SCORES);
            s.output(y);
        });
        let ops: Vec<&str> = graph.nodes.iter().map(|n| n.op_type.as_str()).collect();
        assert_eq!(ops, ["MatMul", "ScaledMaskedSoftmax"]);
        assert_eq!(graph.nodes[1].attributes.float("scale"), Some(0.25));
        assert_eq!(graph.nodes[1].inputs.len(), 2);
    }

    #[test]
    fn a_plain_softmax_stays_as_it_is() {
        let ops = ops_after(|s| {
            let scores = scores(s);
            let y = s.shaped("Softmax", &[scores], &SCORES);
            s.output(y);
        });
        assert_eq!(ops, ["MatMul", "Softmax"]);
    }
}
