//! What is known when a deployment has its turn. Reads the stores, calls nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use afterglow_crds::{GpuNode, InferenceCluster, ModelDeployment, ModelReplica};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt};

use crate::liveness::Judgement;
use crate::operator::Context;

/// Plain data: everything that the decisions look at.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The deployment.
    pub(crate) deployment: ModelDeployment,
    /// Its cluster, unless that is not there or being deleted.
    pub(crate) cluster: Option<InferenceCluster>,
    /// Labels of its namespace.
    pub(crate) namespace_labels: BTreeMap<String, String>,
    /// Other deployments of its namespace and cluster that want the same model name.
    pub(crate) rivals: Vec<Rival>,
    /// Its replicas, also those that are being deleted.
    pub(crate) own: Vec<ModelReplica>,
    /// Every replica of the cluster, its own included.
    pub(crate) all: Vec<ModelReplica>,
    /// Every replica name that is taken in the namespace.
    pub(crate) taken_names: BTreeSet<String>,
    /// The cluster's nodes.
    pub(crate) gpu_nodes: Vec<GpuNode>,
    /// Kubernetes' nodes.
    pub(crate) nodes: BTreeMap<String, Machine>,
    /// Whose agent is alive.
    pub(crate) judgement: Arc<Judgement>,
    /// What is there and says nothing: neither "it is gone" nor "it is fine" follows from it.
    pub(crate) unreadable: Unreadable,
}

/// Objects that this operator cannot read, as they are a newer version's or broken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// Why the deployment's cluster cannot be read.
    pub(crate) cluster: Option<String>,
    /// Nodes whose `GpuNode` cannot be read.
    pub(crate) nodes: BTreeSet<String>,
    /// The deployment's own replicas that cannot be read, and why.
    pub(crate) own: BTreeMap<String, String>,
}

/// Another deployment that wants the same model name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rival {
    /// Its name.
    pub(crate) name: String,
    /// When it was made.
    pub(crate) created: Option<Time>,
    /// Its uid.
    pub(crate) uid: Option<String>,
}

/// A Kubernetes node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether it is cordoned.
    pub(crate) unschedulable: bool,
    /// Whether it is being deleted.
    pub(crate) leaving: bool,
}

/// Reads the stores.
pub(crate) fn gather(context: &Context, deployment: &ModelDeployment) -> Facts {
    let world = &context.world;
    let namespace = deployment.namespace().unwrap_or_default();
    let cluster_name = &deployment.spec.cluster;
    let mut unreadable = Unreadable::default();
    let cluster = world
        .clusters
        .get(&ObjectRef::new(cluster_name))
        .filter(|cluster| cluster.meta().deletion_timestamp.is_none())
        .and_then(|cluster| match &cluster.0 {
            Ok(cluster) => Some(cluster.clone()),
            Err(invalid) => {
                unreadable.cluster = Some(invalid.error.clone());
                None
            }
        });
    let namespace_labels = world
        .namespaces
        .get(&ObjectRef::new(&namespace))
        .map(|namespace| namespace.labels().clone())
        .unwrap_or_default();

    let name = crate::deployment::model_name(deployment);
    let rivals = world
        .deployments
        .state()
        .iter()
        .filter_map(|other| other.0.as_ref().ok())
        .filter(|other| {
            other.namespace() == deployment.namespace()
                && other.spec.cluster == *cluster_name
                && other.metadata.uid != deployment.metadata.uid
                && crate::deployment::model_name(other) == name
        })
        .map(|other| Rival {
            name: other.name_any(),
            created: other.metadata.creation_timestamp.clone(),
            uid: other.metadata.uid.clone(),
        })
        .collect();

    let mut replicas: Vec<ModelReplica> = Vec::new();
    let mut unreadable_names = Vec::new();
    for replica in world.replicas.state() {
        match &replica.0 {
            Ok(replica) => replicas.push(replica.clone()),
            Err(invalid) => {
                if replica.namespace().as_deref() == Some(&namespace) {
                    unreadable_names.push(replica.name_any());
                }
                let mut owners = invalid.metadata.owner_references.iter().flatten();
                if owners.any(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref()) {
                    unreadable.own.insert(replica.name_any(), invalid.error.clone());
                }
            }
        }
    }
    context.expectations.complete(&mut replicas);
    // The order of a store is not the same twice.
    replicas.sort_by_key(|replica| (replica.namespace(), replica.name_any()));
    let taken_names = replicas
        .iter()
        .filter(|replica| replica.namespace().as_deref() == Some(&namespace))
        .map(ResourceExt::name_any)
        .chain(unreadable_names)
        .collect();
    let own = replicas
        .iter()
        .filter(|replica| is_owned(replica, deployment))
        .cloned()
        .collect();
    let all = replicas
        .into_iter()
        .filter(|replica| replica.spec.cluster == *cluster_name)
        .collect();

    let mut gpu_nodes: Vec<GpuNode> = Vec::new();
    for node in world.gpu_nodes.state() {
        match &node.0 {
            Ok(node) if node.spec.cluster == *cluster_name => gpu_nodes.push(node.clone()),
            Ok(_) => {}
            Err(_) => {
                unreadable.nodes.insert(node.name_any());
            }
        }
    }
    gpu_nodes.sort_by_key(ResourceExt::name_any);
    let nodes = world
        .nodes
        .state()
        .iter()
        .filter_map(|node| node.0.as_ref().ok())
        .map(|node| {
            let machine = Machine {
                labels: node.labels().clone(),
                unschedulable: node
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.unschedulable)
                    .unwrap_or(false),
                leaving: node.metadata.deletion_timestamp.is_some(),
            };
            (node.name_any(), machine)
        })
        .collect();

    Facts {
        deployment: deployment.clone(),
        cluster,
        namespace_labels,
        rivals,
        own,
        all,
        taken_names,
        gpu_nodes,
        nodes,
        judgement: context.liveness.now(),
        unreadable,
    }
}

/// Whether a deployment's namespace is being deleted.
pub(crate) fn namespace_is_leaving(context: &Context, deployment: &ModelDeployment) -> bool {
    let namespace = deployment.namespace().unwrap_or_default();
    context
        .world
        .namespaces
        .get(&ObjectRef::new(&namespace))
        .is_some_and(|namespace| namespace.meta().deletion_timestamp.is_some())
}

/// By uid: a deployment that was deleted and made again under its old name does not inherit.
fn is_owned(replica: &ModelReplica, deployment: &ModelDeployment) -> bool {
    replica
        .owner_references()
        .iter()
        .any(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref())
}
