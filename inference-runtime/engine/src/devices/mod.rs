//! The machine's devices: what they are, what they measure, whether they compute right.

mod examine;
mod sensors;

pub(crate) use examine::{Examined, examine, table};
pub(crate) use sensors::Sensors;
