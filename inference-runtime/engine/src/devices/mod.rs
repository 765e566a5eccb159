//! The machine's devices: what they are, what they measure, whether they compute right.

mod sensors;

pub(crate) use sensors::Sensors;
