//! What is there, without what differs from one life to the next: the end state that O1 compares.

use std::collections::BTreeMap;

use afterglow_crds::{GpuNode, ModelDeployment, ModelReplica, labels};
use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::world::World;

/// Objects by kind, namespace and name, all in words that are the same in every world.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, String>);

impl Snapshot {
    /// Of a world, as it is now.
    pub async fn of(world: &World) -> Result<Self> {
        let mut found = Objects::default();
        let (admin, system) = (&world.admin, world.system.as_str());
        found.take::<ModelReplica>(world.replicas(), "").await?;
        found.take::<ModelDeployment>(world.deployments(), "").await?;
        let mine = format!("{}={}", labels::CLUSTER, world.name);
        found.take::<Service>(Api::all(admin.clone()), &mine).await?;
        found
            .take::<ClusterRoleBinding>(Api::all(admin.clone()), &mine)
            .await?;
        found
            .take::<DaemonSet>(Api::namespaced(admin.clone(), system), "")
            .await?;
        found
            .take::<Deployment>(Api::namespaced(admin.clone(), system), "")
            .await?;
        found
            .take::<ServiceAccount>(Api::namespaced(admin.clone(), system), &mine)
            .await?;
        found
            .take::<RoleBinding>(Api::namespaced(admin.clone(), system), &mine)
            .await?;
        found
            .take::<ConfigMap>(Api::namespaced(admin.clone(), system), &mine)
            .await?;
        found
            .take::<NetworkPolicy>(Api::namespaced(admin.clone(), system), "")
            .await?;
        found
            .take::<PodDisruptionBudget>(Api::namespaced(admin.clone(), system), "")
            .await?;
        if let Some(cluster) = world.clusters().get_opt(&world.name).await? {
            found.add(&cluster)?;
        }
        let nodes: Api<Node> = Api::all(admin.clone());
        let gpu_nodes: Api<GpuNode> = Api::all(admin.clone());
        for name in &world.nodes {
            if let Some(node) = nodes.get_opt(name).await? {
                found.add(&node)?;
            }
            if let Some(node) = gpu_nodes.get_opt(name).await? {
                found.add(&node)?;
            }
        }
        Ok(Self(found.in_general_words(&world.name)))
    }

    /// Without the objects whose kinds these are.
    #[must_use]
    pub fn without(mut self, kinds: &[&str]) -> Self {
        self.0
            .retain(|key, _| key.split_once(' ').is_none_or(|(kind, _)| !kinds.contains(&kind)));
        self
    }

    /// How many objects.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is different, in lines for people; `None`: nothing.
    pub fn difference(&self, wanted: &Self) -> Option<String> {
        let mut lines = Vec::new();
        for (key, text) in &wanted.0 {
            match self.0.get(key) {
                None => lines.push(format!("missing: {key}")),
                Some(there) if there != text => lines.push(format!("{key} is\n  {there}\nand not\n  {text}")),
                Some(_) => {}
            }
        }
        let extra = self.0.keys().filter(|key| !wanted.0.contains_key(*key));
        lines.extend(extra.map(|key| format!("too much: {key}")));
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Objects {
    texts: BTreeMap<String, String>,
    /// Replicas' names hold a hash of their place, and so of the world's name.
    replicas: Vec<(String, String)>,
}

impl Objects {
    async fn take<K>(&mut self, api: Api<K>, labels: &str) -> Result<()>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    {
        let list = api
            .list(&ListParams::default().labels(labels))
            .await
            .with_context(|| format!("list {}", K::plural(&())))?;
        list.items.iter().try_for_each(|object| self.add(object))
    }

    fn add<K>(&mut self, object: &K) -> Result<()>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let mut value = serde_json::to_value(object).context("read an object")?;
        if K::kind(&()) == "ModelReplica" {
            let text = |pointer: &str| {
                value
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let revision = value
                .pointer("/spec/revision")
                .and_then(Value::as_i64)
                .unwrap_or_default();
            let place = format!("replica-{revision}-on-{}", text("/spec/nodeName"));
            self.replicas.push((object.name_any(), place));
        }
        mask(&mut value);
        let key = format!(
            "{} {}/{}",
            K::kind(&()),
            object.namespace().unwrap_or_default(),
            object.name_any()
        );
        self.texts.insert(key, value.to_string());
        Ok(())
    }

    fn in_general_words(self, world: &str) -> BTreeMap<String, String> {
        let translate = |text: &str| {
            let mut text = text.to_owned();
            for (name, place) in &self.replicas {
                text = text.replace(name, place);
            }
            text.replace(world, "WORLD")
        };
        self.texts
            .iter()
            .map(|(key, text)| (translate(key), translate(text)))
            .collect()
    }
}

/// Takes out what no two lives have in common.
fn mask(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| {
                let is_of_this_life = matches!(
                    key.as_str(),
                    "uid"
                        | "resourceVersion"
                        | "managedFields"
                        | "clusterIP"
                        | "clusterIPs"
                        | "afterglow.dev/applied"
                        | "healthCheckNodePort"
                        | "nodePort"
                );
                !is_of_this_life && !key.ends_with("Time") && !key.ends_with("Timestamp")
            });
            fields.values_mut().for_each(mask);
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}
