//! Models that answer: from a folder to a session behind a queue, and back to nothing.

mod executor;
mod load;
mod models;
mod served;

pub(crate) use load::Loader;
pub(crate) use models::Models;
pub(crate) use served::Served;
