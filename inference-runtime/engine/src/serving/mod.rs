//! Models that answer: from a folder to a session behind a queue, and back to nothing.

mod executor;
mod load;
mod served;

pub(crate) use executor::Input;
pub(crate) use load::Loader;
pub(crate) use served::Served;
