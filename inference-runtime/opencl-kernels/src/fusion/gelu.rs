//! GELU written out → `Gelu` (ONNX operator spec, Gelu-20; Hendrycks and Gimpel, arXiv 1606.08415).

use super::factors::Factors;
use super::view::near;
use super::{Input, Rewrite, View, node_in_place_of};
use crate::ir::{Attribute, ValueId};

const SQRT_2_OVER_PI: f32 = 0.797_884_6;

/// `0.5 · x · (1 + erf(x / √2))` or `0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))`, in any order.
pub(super) fn find(view: &View<'_>, at: usize) -> Option<Rewrite> {
    let product = Factors::of(view, at)?;
    let output = view.node(at).output(0)?;
    product.pair(0.5)?.into_iter().find_map(|(x, gate)| {
        let mut remove = product.nodes.clone();
        let approximate = if erf_gate(view, gate, x, &mut remove).is_some() {
            "none"
        } else {
            remove.truncate(product.nodes.len());
            tanh_gate(view, gate, x, &mut remove)?;
            "tanh"
        };
        if view.rank(x)? != view.rank(output)? || !view.is_f32(x) {
            return None;
        }
        let mut node = node_in_place_of(view.node(at), "", "Gelu", 20);
        node.attributes
            .set("approximate", Attribute::String(approximate.to_owned()));
        Some(Rewrite {
            remove,
            place: at,
            node,
            inputs: vec![Input::Value(x)],
        })
    })
}

/// `1 + f`, whose nodes are noted; gives `f`.
fn one_plus(view: &View<'_>, gate: ValueId, nodes: &mut Vec<usize>) -> Option<ValueId> {
    let (i, add) = view.producer(gate, "Add")?;
    nodes.push(i);
    [0, 1].into_iter().find_map(|one| {
        let is_one = near(view.scalar(add.input(one)?)?, 1.0);
        is_one.then_some(add.input(1 - one)?)
    })
}

fn erf_gate(view: &View<'_>, gate: ValueId, x: ValueId, nodes: &mut Vec<usize>) -> Option<()> {
    let (i, erf) = view.producer(one_plus(view, gate, nodes)?, "Erf")?;
    nodes.push(i);
    let inner = erf.input(0)?;
    let (at, _) = view
        .producer(inner, "Div")
        .or_else(|| view.producer(inner, "Mul"))?;
    let scaled = Factors::of(view, at)?;
    nodes.extend(&scaled.nodes);
    (scaled.values[..] == [x] && near(scaled.scale, std::f32::consts::FRAC_1_SQRT_2)).then_some(())
}

fn tanh_gate(view: &View<'_>, gate: ValueId, x: ValueId, nodes: &mut Vec<usize>) -> Option<()> {
    let (i, tanh) = view.producer(one_plus(view, gate, nodes)?, "Tanh")?;
    nodes.push(i);
    let (at, _) = view.producer(tanh.input(0)?, "Mul")?;
    let scaled = Factors::of(view, at)?;
    nodes.extend(&scaled.nodes);
    let [sum] = scaled.values[..] else { return None };
    let (i, add) = view.producer(sum, "Add")?;
    nodes.push(i);
    let cubic = View::other_operand(add, x)?;
    let (at, _) = view.producer(cubic, "Mul")?;
    let cubic = Factors::of(view, at)?;
    nodes.extend(&cubic.nodes);
    let is_cube = match cubic.values[..] {
        [a, b, c] => a == x && b == x && c == x,
        [power] => {
            let (i, pow) = view.producer(power, "Pow")?;
            nodes.push(i);
            pow.input(0)? == x && near(view.scalar(pow.input(1)?)?, 3.0)
        }
        _ => false,
    };
    (is_cube && near(scaled.scale, SQRT_2_OVER_PI) && near(cubic.scale, 0.044_715)).then_some(())
}

#[cfg(test)]
mod tests {
    use crate::fusion::fixture::{Sketch, ops_after};

    fn erf_gelu(s: &mut Sketch) {
        let x = s.input("x", 2);
        let scaled = s.binary("Div", x, s.scalar(std::f32::consts::SQRT_2));
        let erf = s.unary("Erf", scaled);
        let gate = s.binary("Add", erf, s.scalar(1.0));
        let product = s.binary("Mul", x, gate);
        let y = s.binary("Mul", product, s.scalar(0.5));
        s.output(y);
    }

    #[test]
    fn erf_gelu_becomes_one_node() {
        assert_eq!(ops_after(erf_gelu), ["Gelu"]);
    }

    #[test]
    fn erf_gelu_with_the_half_first_becomes_one_node() {
        let ops = ops_after(|s| {
            let x = s.input("x", 2);
            let scaled = s.binary("Mul", x, s.scalar(std::f32::consts::FRAC_1_SQRT_2));
            let erf = s.unary("Erf", scaled);
            let gate = s.binary("Add", s.scalar(1.0), erf);
            let half = s.binary("Mul", s.scalar(0.5), x);
            let y = s.binary("Mul", half, gate);
            s.output(y);
        });
        assert_eq!(ops, ["Gelu"]);
    }

    #[test]
    fn tanh_gelu_becomes_one_node() {
        let ops = ops_after(|s| {
            let x = s.input("x", 2);
            let cube = s.binary("Pow", x, s.scalar(3.0));
            let cubic = s.binary("Mul", s.scalar(0.044_715), cube);
            let sum = s.binary("Add", x, cubic);
            let scaled = s.binary("Mul", s.scalar(super::SQRT_2_OVER_PI), sum);
            let tanh = s.unary("Tanh", scaled);
            let gate = s.binary("Add", tanh, s.scalar(1.0));
            let half = s.binary("Mul", x, s.scalar(0.5));
            let y = s.binary("Mul", half, gate);
            s.output(y);
        });
        assert_eq!(ops, ["Gelu"]);
    }

    #[test]
    fn another_constant_is_not_gelu() {
        let ops = ops_after(|s| {
            let x = s.input("x", 2);
            let scaled = s.binary("Div", x, s.scalar(1.5));
            let erf = s.unary("Erf", scaled);
            let gate = s.binary("Add", erf, s.scalar(1.0));
            let product = s.binary("Mul", x, gate);
            let y = s.binary("Mul", product, s.scalar(0.5));
            s.output(y);
        });
        assert_eq!(ops, ["Div", "Erf", "Add", "Mul", "Mul"]);
    }

    #[test]
    fn an_inner_value_that_is_also_an_output_keeps_its_node() {
        let ops = ops_after(|s| {
            erf_gelu(s);
            let erf = s.output_of("Erf");
            s.output(erf);
        });
        assert!(
            ops.contains(&"Erf".to_owned()),
            "the graph's output lost its producer: {ops:?}"
        );
    }
}
