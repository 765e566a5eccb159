//! `x · sigmoid(x)` → fused `Silu` (swish; Ramachandran et al., arXiv 1710.05941).

use super::factors::Factors;
use super::{Input, Rewrite, View, node_in_place_of};
use crate::ir::Node;

/// The product in either order.
pub(super) fn find(view: &View<'_>, at: usize) -> Option<Rewrite> {
    let product = Factors::of(view, at).filter(|product| !product.scaled)?;
    product.pair(1.0)?.into_iter().find_map(|(x, gate)| {
        let (i, sigmoid) = view.producer(gate, "Sigmoid")?;
        if sigmoid.input(0)? != x || !view.is_f32(x) {
            return None;
        }
        let node = node_in_place_of(view.node(at), Node::FUSED, "Silu", 1);
        let remove = [product.nodes.clone(), vec![i]].concat();
        Some(Rewrite {
            remove,
            place: at,
            node,
            inputs: vec![Input::Value(x)],
        })
    })
}

#[cfg(test)]
mod tests {
    use crate::fusion::fixture::ops_after;

    #[test]
    fn x_times_its_sigmoid_becomes_one_node() {
        let ops = ops_after(|s| {
            let x = s.input("x", 2);
            let gate = s.unary("Sigmoid", x);
            let y = s.binary("Mul", gate, x);
            s.output(y);
        });
        assert_eq!(ops, ["afterglow.fused::Silu"]);
    }

    #[test]
    fn x_times_the_sigmoid_of_another_value_stays() {
        let ops = ops_after(|s| {
            let (x, z) = (s.input("x", 2), s.input("z", 2));
            let gate = s.unary("Sigmoid", z);
            let y = s.binary("Mul", gate, x);
            s.output(y);
        });
        assert_eq!(ops, ["Sigmoid", "Mul"]);
    }
}
