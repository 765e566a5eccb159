//! The graph as its author wrote it: ONNX's operators and attributes, without ONNX's files.

mod attributes;
mod graph;
mod node;

pub use attributes::{Attribute, Attributes};
pub use graph::{Graph, ValueId, ValueInfo};
pub use node::Node;
