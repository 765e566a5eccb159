//! Prove it, measure it, then serve it.
//!
//! A probe is a throw-away run in a process of its own: it validates a model's files, loads it on ONNX Runtime's CPU
//! provider and on the device, compares the two on made-up inputs, and measures load time, memory and latency. Its
//! result is a [`ModelProfile`]. A model that crashes or stalls ONNX Runtime takes the probe down, not the engine.

mod cached;
mod child;
mod compare;
mod inputs;
mod measure;
mod placement;
mod profile;
mod table;
mod trial;

pub(crate) use cached::Profiles;
pub(crate) use child::{ProbeChild, end_with_parent};
pub(crate) use inputs::{Shapes, synthesize};
pub(crate) use measure::resident_bytes;
pub(crate) use placement::{check as check_placement, describe as describe_placement};
pub use profile::{Comparison, Latency, ModelProfile, ReasonCode, Verdict};
pub(crate) use table::table;
pub(crate) use trial::{Trial, signature_ports};
