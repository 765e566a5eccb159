//! Refusing attributes that a constructor does not read.

use crate::ops::NodeView;

/// Refuses a node with an attribute that is not among `known`: one that is not read must not be ignored.
pub(in crate::ops) fn refuse_unknown(node: &NodeView<'_>, known: &[&str]) -> Result<(), String> {
    match node.attributes().names().find(|name| !known.contains(name)) {
        Some(name) => Err(format!("attribute '{name}' is not known")),
        None => Ok(()),
    }
}
