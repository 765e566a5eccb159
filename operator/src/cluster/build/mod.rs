//! What an `InferenceCluster` needs, one file per kind. Written as Kubernetes shows it; a test reads every object back
//! through its typed form, so that a misspelt field does not pass.

mod config_map;
mod daemon_set;
mod deployment;
mod device_class;
mod network_policy;
mod pod_disruption_budget;
mod role_binding;
mod service;
mod service_account;
mod tenant_service;
#[cfg(test)]
mod tests;
mod traces;

use std::collections::BTreeMap;

use afterglow_crds::{InferenceCluster, labels};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use k8s_openapi::api::resource::v1::DeviceClass;
use kube::api::ApiResource;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Map, Value, json};

use super::gather::Name;
use crate::args::Options;

/// `app.kubernetes.io/managed-by` of everything that the operator makes.
pub(crate) const MANAGED_BY: &str = "afterglow-operator";

/// The kinds that the operator makes, in the order in which they are applied: what pods need comes before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Who agents and schedulers are.
    ServiceAccount,
    /// What agents may do in their own namespace.
    RoleBinding,
    /// What agents and schedulers may do everywhere.
    ClusterRoleBinding,
    /// Who may talk to them.
    NetworkPolicy,
    /// What the schedulers read.
    ConfigMap,
    /// Where clients find them.
    Service,
    /// How many may be drained at once.
    PodDisruptionBudget,
    /// How other pods claim cards that are lent.
    DeviceClass,
    /// The schedulers.
    Deployment,
    /// The agents.
    DaemonSet,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::ServiceAccount,
        Self::RoleBinding,
        Self::ClusterRoleBinding,
        Self::NetworkPolicy,
        Self::ConfigMap,
        Self::Service,
        Self::PodDisruptionBudget,
        Self::DeviceClass,
        Self::Deployment,
        Self::DaemonSet,
    ];

    /// How the API addresses it.
    pub(crate) fn resource(self) -> ApiResource {
        match self {
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::RoleBinding => ApiResource::erase::<RoleBinding>(&()),
            Self::ClusterRoleBinding => ApiResource::erase::<ClusterRoleBinding>(&()),
            Self::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
            Self::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::DeviceClass => ApiResource::erase::<DeviceClass>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
        }
    }

    /// The one namespace that its objects lie in, if it is one.
    pub(crate) fn watched_in(self, own: &str) -> Option<&str> {
        match self {
            // Services also lie in the namespaces of the clients.
            Self::Service | Self::ClusterRoleBinding | Self::DeviceClass => None,
            Self::ServiceAccount
            | Self::RoleBinding
            | Self::NetworkPolicy
            | Self::ConfigMap
            | Self::PodDisruptionBudget
            | Self::Deployment
            | Self::DaemonSet => Some(own),
        }
    }
}

/// An object as it should be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Child {
    /// Its kind.
    pub(crate) kind: Kind,
    /// Its namespace, if its kind has one.
    pub(crate) namespace: Option<String>,
    /// Its name.
    pub(crate) name: String,
    /// All of it.
    pub(crate) body: Value,
}

impl Child {
    /// Which object it is, for programs.
    pub(crate) fn key(&self) -> Name {
        (self.kind, self.namespace.clone(), self.name.clone())
    }

    /// `Kind namespace/name`, for people.
    pub(crate) fn object(&self) -> String {
        object(&self.key())
    }
}

/// `Kind namespace/name`, for people.
pub(crate) fn object((kind, namespace, name): &Name) -> String {
    let kind = kind.resource().kind;
    match namespace {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// What the builders build from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blueprint<'a> {
    /// The cluster.
    pub(crate) cluster: &'a InferenceCluster,
    /// What the operator was told.
    pub(crate) options: &'a Options,
    /// Namespaces whose clients get a Service of their own.
    pub(crate) tenants: &'a [String],
    /// Whether the API server has `resource.k8s.io/v1`.
    pub(crate) device_classes: bool,
}

/// Everything, in the order of [`Kind::ALL`].
pub(crate) fn all(blueprint: &Blueprint<'_>) -> Vec<Child> {
    let mut children = vec![
        daemon_set::agent(blueprint),
        deployment::scheduler(blueprint),
        service::service(blueprint),
        config_map::scheduler(blueprint),
    ];
    children.extend(service_account::both(blueprint));
    children.extend(role_binding::all(blueprint));
    children.extend(network_policy::both(blueprint));
    children.extend(pod_disruption_budget::scheduler(blueprint));
    children.extend(tenant_service::all(blueprint));
    if blueprint.device_classes {
        children.push(device_class::lent(blueprint));
    }
    children.sort_by(|a, b| (a.kind, &a.namespace, &a.name).cmp(&(b.kind, &b.namespace, &b.name)));
    children
}

/// Which of the two an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Component {
    Agent,
    Scheduler,
}

impl Component {
    fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Scheduler => "scheduler",
        }
    }
}

impl Blueprint<'_> {
    fn cluster_name(&self) -> String {
        self.cluster.name_any()
    }

    /// `afterglow-agent-C`, `afterglow-scheduler-C`.
    fn name(&self, component: Component) -> String {
        format!("afterglow-{}-{}", component.as_str(), self.cluster_name())
    }

    /// `afterglow-C`, in every namespace.
    fn service_name(&self) -> String {
        format!("afterglow-{}", self.cluster_name())
    }

    fn namespace(&self) -> &str {
        &self.options.namespace
    }

    /// What selects the pods of a component; it can never change.
    fn selector(&self, component: Component) -> BTreeMap<&'static str, String> {
        [
            ("app.kubernetes.io/name", "afterglow".to_owned()),
            ("app.kubernetes.io/component", component.as_str().to_owned()),
            (labels::CLUSTER, self.cluster_name()),
        ]
        .into()
    }

    fn labels(&self, component: Component) -> BTreeMap<&'static str, String> {
        let mut labels = self.selector(component);
        labels.insert("app.kubernetes.io/managed-by", MANAGED_BY.to_owned());
        labels
    }

    /// The metadata of a component's pods. The annotations are for a Prometheus that finds its targets by them; one that has
    /// Prometheus' operator beside it follows the chart's `PodMonitor`s instead.
    fn pod_metadata(&self, component: Component, metrics: u16) -> Value {
        let mut metadata = json!({ "labels": self.labels(component) });
        if self.options.scrape_annotations {
            metadata["annotations"] = json!({
                "prometheus.io/scrape": "true",
                "prometheus.io/port": metrics.to_string(),
                "prometheus.io/path": "/metrics",
            });
        }
        metadata
    }

    /// An object that goes when the cluster goes; `rest` is all but its head.
    fn child(
        &self,
        kind: Kind,
        component: Component,
        namespace: Option<&str>,
        name: String,
        rest: Value,
    ) -> Child {
        let resource = kind.resource();
        let mut metadata = json!({
            "name": name,
            "labels": self.labels(component),
            "ownerReferences": [{
                "apiVersion": InferenceCluster::api_version(&()),
                "kind": InferenceCluster::kind(&()),
                "name": self.cluster_name(),
                "uid": self.cluster.uid().unwrap_or_default(),
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        });
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        let mut body = Map::new();
        body.insert("apiVersion".to_owned(), json!(resource.api_version));
        body.insert("kind".to_owned(), json!(resource.kind));
        body.insert("metadata".to_owned(), metadata);
        if let Value::Object(rest) = rest {
            body.extend(rest);
        }
        Child {
            kind,
            namespace: namespace.map(str::to_owned),
            name,
            body: Value::Object(body),
        }
    }
}
