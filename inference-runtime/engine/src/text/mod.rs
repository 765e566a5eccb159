//! Text into tokens, token vectors into one vector a text.
//!
//! How is decided by the model's own files (those of sentence-transformers) and, before them, by `model.yaml`.
//! Nothing here runs the model.

mod encoder;
mod files;
mod pooling;

pub(crate) use encoder::Encoder;
