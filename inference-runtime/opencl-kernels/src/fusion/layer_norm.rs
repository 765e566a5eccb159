//! Layer normalisation written out → `LayerNormalization` (ONNX operator spec, LayerNormalization-17; arXiv 1607.06450).

use super::view::near;
use super::{Input, Rewrite, View, node_in_place_of};
use crate::ir::{Attribute, Node, ValueId};

/// `(x − mean) / √(mean((x − mean)²) + epsilon) · scale + bias`, everything over the last axis.
pub(super) fn find(view: &View<'_>, at: usize) -> Option<Rewrite> {
    let add = view.is(at, "Add")?;
    [(0, 1), (1, 0)].into_iter().find_map(|(scaled, bias)| {
        let bias = add.input(bias)?;
        let (scale_at, mul) = view.producer(add.input(scaled)?, "Mul")?;
        [(0, 1), (1, 0)].into_iter().find_map(|(normalized, scale)| {
            let scale = mul.input(scale)?;
            let found = normalized_rows(view, mul.input(normalized)?)?;
            let extent = view.last_extent(found.x)?;
            let is_row = |value| view.rank(value) == Some(1) && view.last_extent(value) == Some(extent);
            if !is_row(scale) || !is_row(bias) || !view.is_f32(found.x) {
                return None;
            }
            let mut node = node_in_place_of(add, "", "LayerNormalization", 17);
            node.attributes.set("axis", Attribute::Int(-1));
            node.attributes.set("epsilon", Attribute::Float(found.epsilon));
            let remove = [found.nodes, vec![scale_at, at]].concat();
            Some(Rewrite {
                remove,
                place: at,
                node,
                inputs: [found.x, scale, bias].map(Input::Value).to_vec(),
            })
        })
    })
}

struct Normalized {
    x: ValueId,
    epsilon: f32,
    nodes: Vec<usize>,
}

/// `d / √(mean(d²) + epsilon)` with `d = x − mean(x)`, which exporters compute once or twice.
fn normalized_rows(view: &View<'_>, value: ValueId) -> Option<Normalized> {
    let (div_at, div) = view.producer(value, "Div")?;
    let (numerator, root) = (div.input(0)?, div.input(1)?);
    let (sqrt_at, sqrt) = view.producer(root, "Sqrt")?;
    let (add_at, add) = view.producer(sqrt.input(0)?, "Add")?;
    let (variance, epsilon) = [(0, 1), (1, 0)]
        .into_iter()
        .find_map(|(v, e)| Some((add.input(v)?, view.scalar(add.input(e)?)?)))?;
    let (variance_at, reduce) = view.producer(variance, "ReduceMean")?;
    let square = reduce.input(0)?;
    let (square_at, centred) = squared(view, square)?;
    let (sub_at, x, mean) = centred_rows(view, numerator)?;
    let (other_sub_at, other_x, other_mean) = centred_rows(view, centred)?;
    let (mean_at, mean_node) = view.producer(mean, "ReduceMean")?;
    let consistent = (x, mean) == (other_x, other_mean)
        && mean_node.input(0)? == x
        && view.reduces_last_axis(mean_node, x)
        && view.reduces_last_axis(reduce, square);
    let mut nodes = vec![div_at, sqrt_at, add_at, variance_at, square_at, sub_at, mean_at];
    if other_sub_at != sub_at {
        nodes.push(other_sub_at);
    }
    consistent.then_some(Normalized { x, epsilon, nodes })
}

/// `d²` as a power or a product; gives its node and `d`.
fn squared(view: &View<'_>, value: ValueId) -> Option<(usize, ValueId)> {
    if let Some((i, pow)) = view.producer(value, "Pow") {
        return near(view.scalar(pow.input(1)?)?, 2.0).then_some((i, pow.input(0)?));
    }
    let (i, mul) = view.producer(value, "Mul")?;
    (mul.input(0)? == mul.input(1)?).then_some((i, mul.input(0)?))
}

/// `x − mean`; gives its node, `x` and `mean`.
fn centred_rows(view: &View<'_>, value: ValueId) -> Option<(usize, ValueId, ValueId)> {
    let (i, sub): (usize, &Node) = view.producer(value, "Sub")?;
    Some((i, sub.input(0)?, sub.input(1)?))
}

#[cfg(test)]
mod tests {
    use crate::fusion::fixture::{Sketch, ops_after};
    use crate::ir::{Attribute, Attributes};

    fn written_out(s: &mut Sketch, axis: i64) {
        let x = s.input_dims("x", &[None, Some(8)]);
        let over = || Attributes::default().with("axes", Attribute::Ints(vec![axis]));
        let mean = s.node_shaped("ReduceMean", 13, over(), &[x], &[None, Some(1)]);
        let centred = s.shaped("Sub", &[x, mean], &[None, Some(8)]);
        let two = s.scalar(2.0);
        let square = s.shaped("Pow", &[centred, two], &[None, Some(8)]);
        let variance = s.node_shaped("ReduceMean", 13, over(), &[square], &[None, Some(1)]);
        let epsilon = s.scalar(1e-5);
        let shifted = s.shaped("Add", &[variance, epsilon], &[None, Some(1)]);
        let root = s.shaped("Sqrt", &[shifted], &[None, Some(1)]);
        let normalized = s.shaped("Div", &[centred, root], &[None, Some(8)]);
        let (scale, bias) = (s.weights("scale", &[8]), s.weights("bias", &[8]));
        let scaled = s.shaped("Mul", &[normalized, scale], &[None, Some(8)]);
        let y = s.shaped("Add", &[scaled, bias], &[None, Some(8)]);
        s.output(y);
    }

    #[test]
    fn the_written_out_form_becomes_one_node() {
        assert_eq!(ops_after(|s| written_out(s, -1)), ["LayerNormalization"]);
        assert_eq!(ops_after(|s| written_out(s, 1)), ["LayerNormalization"]);
    }

    #[test]
    fn a_mean_over_another_axis_is_not_layer_normalisation() {
        assert_eq!(ops_after(|s| written_out(s, 0)).len(), 9);
    }
}
