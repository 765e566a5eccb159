//! A real Kubernetes cluster, the chart on it, and the stories that must pass there.
//!
//! The stories know a kubeconfig and a [`provider::Provider`]; `docs/dev/e2e.md` says how it fits together.
#![forbid(unsafe_code)]

pub mod command;
pub mod demo;
pub mod faults;
pub mod images;
pub mod kind;
pub mod kubeconfig;
pub mod load;
pub mod local;
pub mod models;
pub mod process;
pub mod provider;
pub mod reference;
pub mod runner;
pub mod stories;
pub mod tools;
pub mod traffic;
pub mod wire;
pub mod world;
