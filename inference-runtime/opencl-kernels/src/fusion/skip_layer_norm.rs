//! `LayerNormalization(x + residual)` → `SkipLayerNorm`, where no epilogue has taken the sum already.

use super::view::is_last;
use super::{Input, Rewrite, View, node_in_place_of};
use crate::ir::{Attribute, Node};

/// The sum stays available as a second output for whoever else reads it.
pub(super) fn find(view: &View<'_>, at: usize) -> Option<Rewrite> {
    let norm = view.is(at, "LayerNormalization")?;
    let sum = norm.input(0)?;
    let (add_at, add) = view.producer(sum, "Add")?;
    let (x, residual) = (add.input(0)?, add.input(1)?);
    let scale = norm.input(1)?;
    let bias = norm.input(2);
    // The new node stands where the sum stood, before whoever reads the sum: so scale and bias must exist by then.
    let early = view.is_early(scale) && bias.is_none_or(|bias| view.is_early(bias));
    let only_y = norm.outputs.iter().skip(1).all(Option::is_none);
    let last = is_last(norm.attributes.int("axis").unwrap_or(-1), view.rank(sum)?);
    if !early || !only_y || !last || !view.is_f32(x) || !view.may_have_equal_shapes(x, residual) {
        return None;
    }
    let mut node = node_in_place_of(norm, Node::FUSED, "SkipLayerNorm", 1);
    node.outputs = vec![norm.output(0)];
    if view.uses(sum) > 1 {
        node.outputs.push(Some(sum));
    }
    node.attributes.set(
        "epsilon",
        Attribute::Float(norm.attributes.float("epsilon").unwrap_or(1e-5)),
    );
    let bias = bias.map_or(Input::Absent, Input::Value);
    let inputs = vec![Input::Value(x), Input::Value(residual), Input::Value(scale), bias];
    Some(Rewrite {
        remove: vec![add_at, at],
        place: add_at,
        node,
        inputs,
    })
}

#[cfg(test)]
mod tests {
    use crate::fusion::fixture::fused;

    #[test]
    fn the_sum_stays_available_to_others() {
        let graph = fused(|s| {
            let dims = [None, Some(8)];
            let (x, r) = (s.input_dims("x", &dims), s.input_dims("r", &dims));
            let sum = s.shaped("Add", &[x, r], &dims);
            let early = s.shaped("Tanh", &[sum], &dims);
            let (scale, bias) = (s.weights("scale", &[8]), s.weights("bias", &[8]));
            let y = s.shaped("LayerNormalization", &[sum, scale, bias], &dims);
            s.output(early);
            s.output(y);
        });
        let ops: Vec<&str> = graph.nodes.iter().map(|n| n.op_type.as_str()).collect();
        assert_eq!(ops, ["SkipLayerNorm", "Tanh"]);
        assert_eq!(graph.nodes[0].outputs.len(), 2);
        graph.validate().unwrap();
    }
}
