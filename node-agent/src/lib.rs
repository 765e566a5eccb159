//! The node agent: discover → offer → host → report.
//!
//! | step | what |
//! |---|---|
//! | [`discover`] | which devices are here, whether they compute right and are well |
//! | [`offer`] | tells the cluster: `GpuNode`, node labels, `ResourceSlice`; [`lend`] hands devices to other pods |
//! | `host` | fetches models ([`fetch`]) and runs one engine per device |
//! | `report` | says how replicas do: state to the API on change, load as a stream; [`recovery`] when they are back after a start |
#![forbid(unsafe_code)]

pub mod args;
pub mod discover;
pub mod fetch;
pub mod health;
pub mod host;
pub mod kube;
pub mod lease;
pub mod lend;
pub mod metrics;
#[cfg(test)]
#[path = "../../tests/metrics_table.rs"]
mod metrics_table;
pub mod occupants;
pub mod offer;
mod process;
pub mod recovery;
pub mod replicas;
pub mod report;
