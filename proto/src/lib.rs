//! Wire types of the Open Inference Protocol v2 with the extensions that Triton's clients use: messages, a client and a
//! server skeleton. No behaviour lives here.
//!
//! The source is `proto/inference/*.proto`; `cargo xtask generate` writes the Rust.
#![forbid(unsafe_code)]

/// Package `inference`: service `GRPCInferenceService`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated: its documentation is the .proto file's, its style the generator's"
)]
pub mod inference {
    include!("generated/inference.rs");
}
