//! Where log lines and traces of our programs go.
//!
//! Log lines go to standard error. Traces go over OTLP to the collector that the environment names
//! (`OTEL_EXPORTER_OTLP_ENDPOINT` and its relatives, [`start`]); where it names none they cost nothing: our spans have the
//! level `debug`, which nobody asks for then.
//!
//! This is the only room that knows OpenTelemetry. Others make spans with `tracing`; they take up a client's trace with
//! [`rest`], [`grpc`] or [`adopt`] and hand theirs on with [`inject`]. It decides nothing: what is sampled stands in the
//! environment and in the `traceparent` of whoever asks.
#![forbid(unsafe_code)]

mod context;
mod export;
#[cfg(test)]
mod kept;
mod past;
mod sample;
mod server;
mod start;
mod wish;

pub use context::{adopt, inject, link, sampled};
pub use past::{Attribute, Past};
pub use server::{answered, grpc, rest};
pub use start::{Format, Guard, Lines, log, start};
