//! What is known when a deployment has its turn. [`gather`] reads the stores, [`facts`] picks from what they hold; neither calls
//! anybody.

use std::borrow::Borrow;
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
pub struct Facts {
    /// The deployment.
    pub deployment: ModelDeployment,
    /// Its cluster, unless that is not there or being deleted.
    pub cluster: Option<InferenceCluster>,
    /// Labels of its namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// Other deployments of its namespace and cluster that want the same model name.
    pub rivals: Vec<Rival>,
    /// Its replicas, also those that are being deleted.
    pub own: Vec<ModelReplica>,
    /// Every replica of the cluster, its own included.
    pub all: Vec<ModelReplica>,
    /// Every replica name that is taken in the namespace.
    pub taken_names: BTreeSet<String>,
    /// The cluster's nodes.
    pub gpu_nodes: Vec<GpuNode>,
    /// Kubernetes' nodes.
    pub nodes: BTreeMap<String, Machine>,
    /// Whose agent is alive.
    pub judgement: Arc<Judgement>,
    /// What is there and says nothing: neither "it is gone" nor "it is fine" follows from it.
    pub unreadable: Unreadable,
}

/// Objects that this operator cannot read, as they are a newer version's or broken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// Why the deployment's cluster cannot be read.
    pub cluster: Option<String>,
    /// Nodes whose `GpuNode` cannot be read.
    pub nodes: BTreeSet<String>,
    /// The deployment's own replicas that cannot be read, and why.
    pub own: BTreeMap<String, String>,
    /// Every replica of the deployment's namespace that cannot be read: it holds its name.
    pub names: BTreeSet<String>,
}

/// Another deployment that wants the same model name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Option<Time>,
    /// Its uid.
    pub uid: Option<String>,
}

/// A Kubernetes node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is cordoned.
    pub unschedulable: bool,
    /// Whether it is being deleted.
    pub leaving: bool,
}

/// What the stores hold, as far as a deployment's turn looks at it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The deployment's cluster, if there is one of that name that is not being deleted.
    pub cluster: Option<InferenceCluster>,
    /// Labels of the deployment's namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// Every replica, those included that were made and that no watch has shown yet.
    pub replicas: Vec<ModelReplica>,
    /// Every node that has an agent.
    pub gpu_nodes: Vec<GpuNode>,
    /// Kubernetes' nodes.
    pub nodes: BTreeMap<String, Machine>,
    /// Whose agent is alive.
    pub judgement: Arc<Judgement>,
    /// What is there and cannot be read.
    pub unreadable: Unreadable,
}

/// Reads the stores.
#[tracing::instrument(level = "debug", skip_all)]
pub(crate) fn gather(context: &Context, deployment: &ModelDeployment) -> Facts {
    let world = &context.world;
    let namespace = deployment.namespace().unwrap_or_default();
    let mut unreadable = Unreadable::default();
    let cluster = world
        .clusters
        .get(&ObjectRef::new(&deployment.spec.cluster))
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
    let deployments = world.deployments.state();
    let deployments: Vec<&ModelDeployment> = deployments
        .iter()
        .filter_map(|other| other.0.as_ref().ok())
        .collect();
    let mut replicas: Vec<ModelReplica> = Vec::new();
    for replica in world.replicas.state() {
        match &replica.0 {
            Ok(replica) => replicas.push(replica.clone()),
            Err(invalid) => {
                if replica.namespace().as_deref() == Some(&namespace) {
                    unreadable.names.insert(replica.name_any());
                }
                let mut owners = invalid.metadata.owner_references.iter().flatten();
                if owners.any(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref()) {
                    unreadable.own.insert(replica.name_any(), invalid.error.clone());
                }
            }
        }
    }
    context.expectations.complete(&mut replicas);
    let mut gpu_nodes: Vec<GpuNode> = Vec::new();
    for node in world.gpu_nodes.state() {
        match &node.0 {
            Ok(node) => gpu_nodes.push(node.clone()),
            Err(_) => {
                unreadable.nodes.insert(node.name_any());
            }
        }
    }
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
    let seen = Seen {
        cluster,
        namespace_labels,
        replicas,
        gpu_nodes,
        nodes,
        judgement: context.liveness.now(),
        unreadable,
    };
    facts(deployment, &deployments, seen)
}

/// What of all that was seen a deployment's turn is about. In an order of its own: that of a store is not the same twice.
pub fn facts(
    deployment: &ModelDeployment,
    deployments: &[impl Borrow<ModelDeployment>],
    seen: Seen,
) -> Facts {
    let Seen {
        cluster,
        namespace_labels,
        mut replicas,
        mut gpu_nodes,
        nodes,
        judgement,
        unreadable,
    } = seen;
    let namespace = deployment.namespace().unwrap_or_default();
    let cluster_name = &deployment.spec.cluster;
    let name = crate::deployment::model_name(deployment);
    let mut rivals: Vec<Rival> = deployments
        .iter()
        .map(Borrow::borrow)
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
    // The oldest first: it is the one that the status names, always the same.
    rivals.sort_by(|a, b| (&a.created, &a.uid).cmp(&(&b.created, &b.uid)));

    replicas.sort_by_key(|replica| (replica.namespace(), replica.name_any()));
    let taken_names = replicas
        .iter()
        .filter(|replica| replica.namespace().as_deref() == Some(&namespace))
        .map(ResourceExt::name_any)
        .chain(unreadable.names.iter().cloned())
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
    gpu_nodes.retain(|node| node.spec.cluster == *cluster_name);
    gpu_nodes.sort_by_key(ResourceExt::name_any);

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
        judgement,
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
