//! What is known when a cluster has its turn. Reads the stores, calls nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use afterglow_crds::{GpuNode, InferenceCluster, labels};
use kube::api::DynamicObject;
use kube::core::{Selector, SelectorExt as _};
use kube::{Resource as _, ResourceExt};

use super::build::Kind;
use super::contest::Contest;
use crate::liveness::Judgement;
use crate::operator::Context;

/// An object that the operator makes: kind, namespace and name.
pub(crate) type Name = (Kind, Option<String>, String);
/// Those that there are.
pub(crate) type Children = HashMap<Name, Arc<DynamicObject>>;

/// Plain data: everything that the decisions look at.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The cluster.
    pub(crate) cluster: InferenceCluster,
    /// Whether other clusters exist, not counting those that are being deleted.
    pub(crate) has_siblings: bool,
    /// Namespaces whose clients get a Service of their own.
    pub(crate) tenants: Vec<String>,
    /// What the operator has made for this cluster, and what it has made for all.
    pub(crate) children: Children,
    /// Kinds that this API server has.
    pub(crate) kinds: BTreeSet<Kind>,
    /// The cluster's nodes.
    pub(crate) gpu_nodes: Vec<GpuNode>,
    /// Labels of Kubernetes' nodes.
    pub(crate) nodes: BTreeMap<String, BTreeMap<String, String>>,
    /// Names of the cluster's replicas that exist.
    pub(crate) replicas: Vec<String>,
    /// Whose agent is alive.
    pub(crate) judgement: Arc<Judgement>,
    /// Which of the children somebody else writes too.
    pub(crate) contests: HashMap<Name, Contest>,
    /// When this was read.
    pub(crate) now: Instant,
}

/// Reads the stores.
#[tracing::instrument(level = "debug", skip_all)]
pub(crate) fn gather(context: &Context, cluster: &InferenceCluster) -> Facts {
    let now = Instant::now();
    let world = &context.world;
    let name = cluster.name_any();
    let has_siblings = world
        .clusters
        .state()
        .iter()
        .any(|other| other.name_any() != name && other.meta().deletion_timestamp.is_none());

    let mut children = HashMap::new();
    for (&kind, store) in world.children.iter() {
        for object in store.state() {
            let belongs = match object.labels().get(labels::CLUSTER) {
                Some(owner) => *owner == name,
                None => kind == Kind::DeviceClass,
            };
            if belongs {
                children.insert((kind, object.namespace(), object.name_any()), object);
            }
        }
    }

    let mut gpu_nodes: Vec<GpuNode> = world
        .gpu_nodes
        .state()
        .iter()
        .filter_map(|node| node.0.as_ref().ok())
        .filter(|node| node.spec.cluster == name)
        .cloned()
        .collect();
    gpu_nodes.sort_by_key(ResourceExt::name_any);
    let nodes = world
        .nodes
        .state()
        .iter()
        .map(|node| (node.name_any(), node.labels().clone()))
        .collect();
    let mut replicas: Vec<String> = world
        .replicas
        .state()
        .iter()
        .filter(|replica| replica.labels().get(labels::CLUSTER) == Some(&name))
        .map(|replica| {
            format!(
                "{}/{}",
                replica.namespace().unwrap_or_default(),
                replica.name_any()
            )
        })
        .collect();
    replicas.sort();

    let mut contests = context.contests.at(now);
    contests.retain(|name, _| children.contains_key(name));

    Facts {
        cluster: cluster.clone(),
        has_siblings,
        tenants: tenants(context, cluster, &children),
        children,
        kinds: world.children.keys().copied().collect(),
        gpu_nodes,
        nodes,
        replicas,
        judgement: context.liveness.now(),
        contests,
        now,
    }
}

/// Namespaces that exist, are allowed, and have a deployment of the cluster or are its default.
fn tenants(context: &Context, cluster: &InferenceCluster, children: &Children) -> Vec<String> {
    let world = &context.world;
    let mut wanted: BTreeSet<String> = world
        .deployments
        .state()
        .iter()
        .filter_map(|deployment| deployment.0.as_ref().ok())
        .filter(|deployment| deployment.spec.cluster == cluster.name_any())
        .filter_map(ResourceExt::namespace)
        .collect();
    wanted.insert(cluster.spec.default_namespace.clone());
    // Whose a deployment is that cannot be read, nobody knows: what its namespace has, it keeps.
    let unreadable = world.deployments.state();
    let unreadable = unreadable.iter().filter(|deployment| deployment.0.is_err());
    wanted.extend(unreadable.filter_map(|deployment| {
        let namespace = deployment.namespace()?;
        let service = (
            Kind::Service,
            Some(namespace.clone()),
            format!("afterglow-{}", cluster.name_any()),
        );
        children.contains_key(&service).then_some(namespace)
    }));
    let selector = cluster
        .spec
        .namespace_selector
        .clone()
        .map(|selector| Selector::try_from(selector).ok());
    world
        .namespaces
        .state()
        .iter()
        .filter(|namespace| wanted.contains(&namespace.name_any()))
        .filter(|namespace| namespace.meta().deletion_timestamp.is_none())
        .filter(|namespace| match &selector {
            None => true,
            Some(selector) => selector
                .as_ref()
                .is_some_and(|selector| selector.matches(namespace.labels())),
        })
        .map(|namespace| namespace.name_any())
        .collect::<BTreeSet<String>>()
        .into_iter()
        .collect()
}
