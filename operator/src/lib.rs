//! The operator: makes what an `InferenceCluster` needs, and places the replicas of every `ModelDeployment`.
//!
//! Two controllers, each `gather → check → plan → apply → report`, one file per step. `gather` reads the stores that
//! [`watch`] fills, `check` and `plan` are pure, only `apply` and `report` write. `docs/dev/life-of-a-reconcile.md` walks
//! through both. It never touches a device, a model's bytes or a request: those are the agent's and the scheduler's.
#![forbid(unsafe_code)]

pub mod args;
mod call;
mod cluster;
mod deployment;
mod expectations;
mod first_cluster;
mod leader;
mod liveness;
mod metrics;
#[cfg(test)]
#[path = "../../tests/metrics_table.rs"]
mod metrics_table;
mod operator;
mod pace;
mod queue;
mod serve;
mod sight;
pub mod steps;
#[cfg(test)]
mod stub;
mod sweep;
mod told;
mod watch;

pub use args::Options;
pub use operator::{Error, run};
