//! Operators: one folder a family, and in it for each operator its launcher, its kernel (`.cl`), its CPU reference
//! and its tests, side by side.
//!
//! An operator is made by [`lower`] from a [`Node`](crate::ir::Node); whatever lowering accepts must plan and run
//! for every shape that fits the node's declared ranks and types.

mod lowering;
mod operator;

pub mod conv;
pub mod elementwise;
pub mod index;
pub mod matmul;
pub mod movement;
pub mod norm;
pub mod pool;
pub mod reduce;
pub mod shape;

pub use lowering::{Constructor, NodeView, Registration, lower, registrations};
pub use operator::{Operand, Operator, Reason};
