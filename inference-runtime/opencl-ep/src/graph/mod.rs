//! The runtime's graphs, and our copies of them.

mod attribute;
mod model;
mod tensor;
mod view;

pub(crate) use model::{Constants, Model, ValueIndex};
#[cfg(test)]
pub(crate) use model::{Node, Value};
pub(crate) use tensor::{TensorView, Type};
pub(crate) use view::{GraphView, NodeView, ValueView};
