//! `x · clip(x + 3, 0, 6) / 6` or `x · HardSigmoid(x)` → `HardSwish` (ONNX operator spec, HardSwish-14).

use super::activation::clip_bounds;
use super::factors::Factors;
use super::view::near;
use super::{Input, Rewrite, View, node_in_place_of};
use crate::ir::ValueId;

/// Both forms, in any order of factors.
pub(super) fn find(view: &View<'_>, at: usize) -> Option<Rewrite> {
    let product = Factors::of(view, at)?;
    let written_out = product
        .pair(1.0 / 6.0)
        .into_iter()
        .flatten()
        .map(|(x, gate)| (x, clip_gate(view, gate, x)));
    let operator = product
        .pair(1.0)
        .into_iter()
        .flatten()
        .map(|(x, gate)| (x, hard_sigmoid(view, gate, x)));
    let (x, nodes) = written_out
        .chain(operator)
        .find_map(|(x, nodes)| Some((x, nodes?)))?;
    if !view.is_f32(x) || view.rank(x)? != view.rank(view.node(at).output(0)?)? {
        return None;
    }
    let node = node_in_place_of(view.node(at), "", "HardSwish", 14);
    Some(Rewrite {
        remove: [product.nodes, nodes].concat(),
        place: at,
        node,
        inputs: vec![Input::Value(x)],
    })
}

/// `clip(x + 3, 0, 6)`
fn clip_gate(view: &View<'_>, gate: ValueId, x: ValueId) -> Option<Vec<usize>> {
    let (clip_at, clip) = view.producer(gate, "Clip")?;
    if clip_bounds(view, clip)? != (0.0, 6.0) {
        return None;
    }
    let (add_at, add) = view.producer(clip.input(0)?, "Add")?;
    near(view.scalar(View::other_operand(add, x)?)?, 3.0).then(|| vec![clip_at, add_at])
}

fn hard_sigmoid(view: &View<'_>, gate: ValueId, x: ValueId) -> Option<Vec<usize>> {
    let (i, node) = view.producer(gate, "HardSigmoid")?;
    let (alpha, beta) = (
        node.attributes.float("alpha").unwrap_or(0.2),
        node.attributes.float("beta").unwrap_or(0.5),
    );
    (node.input(0)? == x && near(alpha, 1.0 / 6.0) && near(beta, 0.5)).then(|| vec![i])
}

#[cfg(test)]
mod tests {
    use crate::fusion::fixture::ops_after;
    use crate::ir::{Attribute, Attributes};

    #[test]
    fn the_written_out_form_becomes_one_node() {
        let ops = ops_after(|s| {
            let x = s.input("x", 2);
            let shifted = s.binary("Add", x, s.scalar(3.0));
            let (low, high) = (s.scalar(0.0), s.scalar(6.0));
            let clipped = s.node("Clip", 13, Attributes::default(), &[shifted, low, high], 2);
            let product = s.binary("Mul", x, clipped);
            let y = s.binary("Div", product, s.scalar(6.0));
            s.output(y);
        });
        assert_eq!(ops, ["HardSwish"]);
    }

    #[test]
    fn only_the_hard_sigmoid_of_hard_swish_counts() {
        let with = |alpha| {
            ops_after(|s| {
                let x = s.input("x", 2);
                let attributes = Attributes::default().with("alpha", Attribute::Float(alpha));
                let gate = s.node("HardSigmoid", 6, attributes, &[x], 2);
                let y = s.binary("Mul", x, gate);
                s.output(y);
            })
        };
        assert_eq!(with(1.0 / 6.0), ["HardSwish"]);
        assert_eq!(with(0.2), ["HardSigmoid", "Mul"]);
    }
}
