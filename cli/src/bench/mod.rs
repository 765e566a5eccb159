//! Load generation: what is sent ([`Target`]), when ([`Load`]) and what came of it ([`Report`]).

mod load;
mod report;
mod target;

pub(crate) use load::{Load, run};
pub(crate) use report::{Comparison, Report, table};
pub(crate) use target::Target;
