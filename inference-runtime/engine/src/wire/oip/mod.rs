//! The Open Inference Protocol v2, without a network: pure functions between messages and the engine's own types.
//!
//! A message comes in four encodings: JSON, JSON with binary tensors behind it, gRPC with raw contents, gRPC with typed
//! contents. Every check of lengths, shapes and datatypes happens here, before anything is allocated for what a client
//! merely claims.

pub(crate) mod config;
pub(crate) mod grpc;
pub(crate) mod parameters;
pub(crate) mod rest;
pub(crate) mod server;
pub(crate) mod shape;
pub(crate) mod statistics;
pub(crate) mod strings;

use crate::api::{Error, Result};

/// Refuses a name that comes twice; `what` is `input` or `output`.
pub(crate) fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut known = std::collections::HashSet::new();
    for name in names {
        if !known.insert(name) {
            return Err(Error::invalid(format!("{what} `{name}` is given twice")));
        }
    }
    Ok(())
}
