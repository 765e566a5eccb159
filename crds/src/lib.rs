//! The kinds of `afterglow.dev/v1alpha1`: one file each, and the words they share.
//!
//! | kind | scope | written by |
//! |---|---|---|
//! | [`InferenceCluster`] | cluster | people; status by the operator |
//! | [`ModelDeployment`] | namespace | people; status by the operator |
//! | [`ModelReplica`] | namespace | spec by the operator, status by the agent of its node |
//! | [`GpuNode`] | cluster | spec by people, status by the agent of that node |
//!
//! Field docs here are the user's reference: `cargo xtask generate` turns them into `crds/*.yaml` and `docs/guide/api.md`.
//! Durations are strings such as `2ms`, sizes are quantities such as `4Gi`; there are no floats in a spec.
#![forbid(unsafe_code)]
#![allow(
    unreachable_pub,
    reason = "the derived schemas copy each struct into a function, with its `pub`"
)]

#[cfg(feature = "client")]
pub mod client;
pub mod condition;
pub mod gpu_node;
pub mod inference_cluster;
pub mod labels;
pub mod model;
pub mod model_deployment;
pub mod model_replica;
pub mod quantity;
mod rule;
#[cfg(feature = "client")]
pub mod status;
#[cfg(test)]
mod tests;

pub use gpu_node::GpuNode;
pub use inference_cluster::InferenceCluster;
pub use model_deployment::ModelDeployment;
pub use model_replica::ModelReplica;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// The API group.
pub const GROUP: &str = "afterglow.dev";
/// The one version that is served and stored.
pub const VERSION: &str = "v1alpha1";

/// Every kind, in the order in which they are documented and installed.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        InferenceCluster::crd(),
        ModelDeployment::crd(),
        ModelReplica::crd(),
        GpuNode::crd(),
    ]
}
