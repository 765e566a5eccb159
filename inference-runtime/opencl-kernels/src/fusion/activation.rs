//! Activations that a launch can apply to its result before storing it.

use super::View;
use crate::ir::{Attribute, Attributes, Node};

/// Writes an activation node as the attributes of a fused node; `None` if it is none that epilogues know.
pub(super) fn as_attributes(view: &View<'_>, node: &Node) -> Option<Attributes> {
    let named = |name: &str| Attributes::default().with("activation", Attribute::String(name.to_owned()));
    Some(match (node.domain.as_str(), node.op_type.as_str()) {
        ("", "Relu") => named("Relu"),
        ("", "Tanh") => named("Tanh"),
        ("", "Sigmoid") => named("Sigmoid"),
        ("", "HardSwish") => named("HardSwish"),
        ("", "Gelu") => match node.attributes.string("approximate") {
            Some("tanh") => named("GeluTanh"),
            _ => named("Gelu"),
        },
        ("", "LeakyRelu") => {
            let alpha = node.attributes.float("alpha").unwrap_or(0.01);
            named("LeakyRelu").with("leaky_alpha", Attribute::Float(alpha))
        }
        ("", "Clip") => {
            let (low, high) = clip_bounds(view, node)?;
            named("Clip")
                .with("clip_min", Attribute::Float(low))
                .with("clip_max", Attribute::Float(high))
        }
        (Node::FUSED, "Silu") => named("Silu"),
        _ => return None,
    })
}

/// A `Clip`'s bounds, if they are constants: attributes before opset 11, inputs since.
pub(super) fn clip_bounds(view: &View<'_>, clip: &Node) -> Option<(f32, f32)> {
    let bound = |attribute: &str, input: usize, default: f32| match clip.input(input) {
        Some(value) => view.scalar(value),
        None => Some(clip.attributes.float(attribute).unwrap_or(default)),
    };
    Some((bound("min", 1, f32::MIN)?, bound("max", 2, f32::MAX)?))
}
