//! The protocols: OIP v2 over REST and gRPC, OpenAI's embeddings, Prometheus.
//!
//! Three kinds of file: pure translation (`oip`, `json`), one server per protocol (`rest`, `grpc`, `openai`, …), and the
//! socket side that they share. No decision about models is taken here: handlers decode, ask the engine, encode.
#![allow(dead_code)]

mod deadline;
mod json;
mod oip;
mod status;
