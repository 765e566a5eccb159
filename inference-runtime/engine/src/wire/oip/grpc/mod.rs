//! The gRPC encodings of an inference: raw contents and typed contents.

mod contents;
mod request;
mod response;

pub(crate) use request::{Body, decode};
pub(crate) use response::encode;
