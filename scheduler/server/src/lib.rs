//! The front door: it picks a replica for each request and forwards the request's bytes.
//!
//! The flow of a request is `serve → admit → snapshot → pick → send → observe`, one file each. Doors (`door`) know protocols,
//! the flow does not. What there is to pick from is the [`Fleet`], which somebody else knows: [`fleet::watch`] reads it from
//! Kubernetes, `afterglow up` from its own agent.
#![forbid(unsafe_code)]

mod admit;
mod config;
mod door;
pub mod fleet;
mod load;
mod metrics;
mod namespace;
mod observe;
mod pick;
mod refusal;
mod send;
mod serve;
mod sessions;
mod snapshot;
pub mod steps;

pub use config::{Config, Limits, watch_file};
pub use fleet::Fleet;
pub use serve::{Listeners, MetricsOfOthers, Options, serve};
