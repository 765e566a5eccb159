//! The folder of models: what is in it and what its owner says of it.
//!
//! Nothing here loads a model; what is read here is what [`crate::serving`] works from.

mod digest;
mod duration;
mod folder;
mod name;
mod overrides;
mod settings;

pub(crate) use digest::digest;
pub(crate) use folder::{Folder, ModelFolder};
pub(crate) use name::fault as name_fault;
pub(crate) use name::version;
pub(crate) use overrides::apply as apply_overrides;
pub(crate) use settings::{
    Batching, Embedding, PlacementRule, Pooling, ProbeInput, Settings, Task, Tolerance, WarmUp,
};
