//! A product taken apart: exporters write `0.5 * x * f(x)` in every order.

use super::View;
use crate::ir::ValueId;

/// A product of constants and values.
#[derive(Debug, Default)]
pub(crate) struct Factors {
    /// The constants' product.
    pub(crate) scale: f32,
    /// Whether there was any constant.
    pub(crate) scaled: bool,
    /// The other factors.
    pub(crate) values: Vec<ValueId>,
    /// The `Mul` and `Div` nodes that make the product.
    pub(crate) nodes: Vec<usize>,
}

impl Factors {
    /// Takes the node at `at` apart if it is a `Mul`, or a `Div` by a constant; through operands that nobody else reads.
    pub(crate) fn of(view: &View<'_>, at: usize) -> Option<Self> {
        let mut factors = Self {
            scale: 1.0,
            ..Self::default()
        };
        factors.take_node(view, at).then_some(factors)
    }

    /// The two values of a product with this constant, in either order.
    pub(crate) fn pair(&self, scale: f32) -> Option<[(ValueId, ValueId); 2]> {
        match self.values[..] {
            [a, b] if super::view::near(self.scale, scale) => Some([(a, b), (b, a)]),
            _ => None,
        }
    }

    fn take_node(&mut self, view: &View<'_>, at: usize) -> bool {
        let node = view.node(at);
        let (Some(a), Some(b)) = (node.input(0), node.input(1)) else {
            return false;
        };
        if view.is(at, "Mul").is_some() {
            self.nodes.push(at);
            self.take_value(view, a);
            self.take_value(view, b);
            return true;
        }
        match view.scalar(b) {
            Some(divisor) if view.is(at, "Div").is_some() => {
                self.nodes.push(at);
                self.scale /= divisor;
                self.scaled = true;
                self.take_value(view, a);
                true
            }
            _ => false,
        }
    }

    fn take_value(&mut self, view: &View<'_>, value: ValueId) {
        if let Some(scalar) = view.scalar(value) {
            self.scale *= scalar;
            self.scaled = true;
            return;
        }
        let producer = view
            .producer(value, "Mul")
            .or_else(|| view.producer(value, "Div"));
        let taken = view.uses(value) == 1 && producer.is_some_and(|(i, _)| self.take_node(view, i));
        if !taken {
            self.values.push(value);
        }
    }
}
