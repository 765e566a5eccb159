//! A plan: every launch of a graph for one set of input shapes, with every argument decided.
//!
//! Planning is pure. It folds what does not depend on the request's data, lets operators record their launches
//! ([`Emitter`]) and lays the temporary buffers out in one arena. Running a plan has no choices left to make.

mod emitter;
mod memory;
mod planner;
mod step;
pub(crate) mod values;

pub use emitter::{Emitter, Recording, Resident};
pub use memory::Layout;
pub use planner::{OutputSource, Plan, PlanInput, PlanOutput};
pub use step::{Arg, Launch, Source, Step, Storage, StorageId, StorageKind};
