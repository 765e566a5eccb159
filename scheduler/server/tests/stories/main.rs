//! The scheduler as clients meet it, with small upstreams in the engines' place that say what they were asked.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, where a panic is the complaint"
)]

mod drain;
mod faults;
mod grpc;
mod lifecycle;
#[path = "../../../../tests/metrics_table.rs"]
mod metrics_table;
mod proxy;
mod rest;
mod upstream;
mod world;
