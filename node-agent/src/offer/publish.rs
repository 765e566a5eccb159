//! What is written to the API server, each only when it says something new.

use std::collections::BTreeMap;

use afterglow_crds::gpu_node::{GpuNode, GpuNodeStatus};
use afterglow_crds::labels::{AGENT_MANAGER, CLUSTER};
use afterglow_crds::{GROUP, InferenceCluster, ModelReplica, VERSION};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::{Device, ResourceClaim, ResourceSlice};
use kube::api::{DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::{labels, slice};
use crate::kube::{ApiError, call, find};

/// An event's note may be this long.
const NOTE: usize = 1000;

/// The objects of one node.
pub(super) struct Publisher {
    client: Client,
    node: String,
    cluster: String,
    recorder: Recorder,
    /// Whether the API server knows slices; asked once.
    slices: Option<bool>,
    taints_kept: bool,
}

/// Whose a `GpuNode` is.
#[derive(Debug)]
pub(super) enum Owner {
    /// Ours.
    Ours(Box<GpuNode>),
    /// Somebody else's, or nobody's that may be ours: why.
    NotOurs(String),
}

impl Publisher {
    pub(super) fn new(client: Client, node: &str, cluster: &str) -> Self {
        let reporter = Reporter {
            controller: AGENT_MANAGER.to_owned(),
            instance: Some(node.to_owned()),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            node: node.to_owned(),
            cluster: cluster.to_owned(),
            slices: None,
            taints_kept: true,
        }
    }

    fn gpu_nodes(&self) -> Api<GpuNode> {
        Api::all(self.client.clone())
    }

    pub(super) async fn node(&self) -> Result<Node, ApiError> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        call(format!("read Node {}", self.node), nodes.get(&self.node)).await
    }

    /// The node's `GpuNode`, made if there is none, if it is ours to write.
    pub(super) async fn claim(&self, node: &Node) -> Result<Owner, ApiError> {
        let name = &self.node;
        let found = find(format!("read GpuNode {name}"), self.gpu_nodes().get(name)).await?;
        let Some(gpu_node) = found else {
            return match self.cluster_exists(&self.cluster).await? {
                Some(false) => Ok(Owner::NotOurs(format!(
                    "there is no InferenceCluster {}: this agent has nobody to serve; create it, or delete this agent's \
                     DaemonSet",
                    self.cluster
                ))),
                _ => self.create(node).await.map(|made| Owner::Ours(Box::new(made))),
            };
        };
        let other = &gpu_node.spec.cluster;
        if !other.is_empty() && *other != self.cluster && self.cluster_exists(other).await? != Some(false) {
            let why = format!(
                "node {name} belongs to InferenceCluster {other}, so {} cannot have it: narrow one cluster's \
                 spec.agent.nodeSelector, then delete GpuNode {name}",
                self.cluster
            );
            self.event(
                &gpu_node,
                EventType::Warning,
                "BelongsToAnotherCluster",
                "Claim",
                &why,
            )
            .await;
            return Ok(Owner::NotOurs(why));
        }
        let wanted = self.identity(node);
        let labelled = gpu_node.labels().get(CLUSTER) == Some(&self.cluster);
        let owned = gpu_node
            .owner_references()
            .iter()
            .any(|owner| node.uid().as_ref() == Some(&owner.uid));
        if *other == self.cluster && labelled && owned {
            return Ok(Owner::Ours(Box::new(gpu_node)));
        }
        let mut body = wanted;
        body["metadata"]["uid"] = json!(gpu_node.uid());
        let patch = PatchParams::apply(AGENT_MANAGER).force();
        let taken = call(
            format!("take over GpuNode {name}"),
            self.gpu_nodes().patch(name, &patch, &Patch::Apply(&body)),
        )
        .await?;
        Ok(Owner::Ours(Box::new(taken)))
    }

    fn identity(&self, node: &Node) -> Value {
        json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": "GpuNode",
            "metadata": {
                "name": self.node,
                "labels": {CLUSTER: self.cluster},
                "ownerReferences": [owner(node)],
            },
            // Nothing else: whether it is cordoned or lends is for people to say.
            "spec": {"cluster": self.cluster},
        })
    }

    async fn create(&self, node: &Node) -> Result<GpuNode, ApiError> {
        let kind = kube::core::ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(GROUP, VERSION, "GpuNode"),
            &GpuNode::plural(&()),
        );
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
        let what = || format!("create GpuNode {}", self.node);
        let object = serde_json::from_value(self.identity(node)).map_err(|error| ApiError::Failed {
            what: what(),
            source: Box::new(kube::Error::SerdeError(error)),
        })?;
        let parameters = PostParams {
            field_manager: Some(AGENT_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let made = call(what(), api.create(&parameters, &object)).await?;
        made.try_parse().map_err(|error| ApiError::Failed {
            what: what(),
            source: Box::new(kube::Error::SerdeError(serde::de::Error::custom(error))),
        })
    }

    /// Whether an `InferenceCluster` exists; `None` where this agent may not know.
    async fn cluster_exists(&self, cluster: &str) -> Result<Option<bool>, ApiError> {
        let clusters: Api<InferenceCluster> = Api::all(self.client.clone());
        match find(format!("read InferenceCluster {cluster}"), clusters.get(cluster)).await {
            Ok(found) => {
                Ok(Some(found.is_some_and(|cluster| {
                    cluster.metadata.deletion_timestamp.is_none()
                })))
            }
            Err(error) if error.status() == Some(403) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn status(&self, gpu_node: &GpuNode, status: &GpuNodeStatus) -> Result<(), ApiError> {
        if gpu_node.status.as_ref() == Some(status) {
            return Ok(());
        }
        let api = self.gpu_nodes();
        let write = afterglow_crds::status::write(&api, gpu_node, status, AGENT_MANAGER);
        let what = format!("write the status of GpuNode {}", self.node);
        // Whoever places models has not heard it: the round must not go on to what relies on that.
        call(&what, write).await?.ok_or(ApiError::Gone { what })?;
        tracing::info!(summary = %status.summary, offered = status.offered, "GpuNode says what this node has");
        Ok(())
    }

    pub(super) async fn labels(
        &self,
        node: &Node,
        wanted: &BTreeMap<String, String>,
    ) -> Result<(), ApiError> {
        if labels::current(node.metadata.labels.as_ref(), wanted) {
            return Ok(());
        }
        let body = json!({
            "apiVersion": "v1",
            "kind": "Node",
            // The UID keeps an apply from making a node that has just been deleted.
            "metadata": {"name": self.node, "uid": node.uid(), "labels": wanted},
        });
        let nodes: Api<Node> = Api::all(self.client.clone());
        let patch = PatchParams::apply(AGENT_MANAGER).force();
        call(
            format!("label Node {}", self.node),
            nodes.patch_metadata(&self.node, &patch, &Patch::Apply(&body)),
        )
        .await?;
        Ok(())
    }

    /// Whether the API server knows `resource.k8s.io/v1`.
    pub(super) async fn serves_slices(&mut self) -> Result<bool, ApiError> {
        if let Some(known) = self.slices {
            return Ok(known);
        }
        let kind = GroupVersionKind::gvk("resource.k8s.io", "v1", "ResourceSlice");
        let served = match call(
            "ask the API server for resource.k8s.io/v1",
            kube::discovery::pinned_kind(&self.client, &kind),
        )
        .await
        {
            Ok(_) => true,
            Err(ApiError::Failed { source, .. })
                if matches!(&*source, kube::Error::Discovery(_))
                    || matches!(&*source, kube::Error::Api(status) if status.code == 404) =>
            {
                tracing::info!(
                    "the API server has no resource.k8s.io/v1 (Kubernetes < 1.34): no ResourceSlice, no lending"
                );
                false
            }
            Err(error) => return Err(error),
        };
        self.slices = Some(served);
        Ok(served)
    }

    /// Publishes the devices that `devices(taints are kept)` gives.
    pub(super) async fn slice(
        &mut self,
        node: &Node,
        devices: impl Fn(bool) -> Vec<Device>,
    ) -> Result<(), ApiError> {
        if !self.serves_slices().await? {
            return Ok(());
        }
        let api: Api<ResourceSlice> = Api::all(self.client.clone());
        let name = slice::name(&self.node);
        let mut old = find(format!("read ResourceSlice {name}"), api.get(&name)).await?;
        // Twice at most: a second time without what the server does not taint.
        for _ in 0..2 {
            let wanted = devices(self.taints_kept);
            let Some(spec) = slice::next(&self.node, wanted.clone(), old.as_ref().map(|old| &old.spec))
            else {
                return Ok(());
            };
            let body = json!({
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceSlice",
                "metadata": {
                    "name": name,
                    "labels": {CLUSTER: self.cluster},
                    "ownerReferences": [owner(node)],
                },
                "spec": spec,
            });
            let patch = PatchParams::apply(AGENT_MANAGER).force();
            let written = call(
                format!("write ResourceSlice {name}"),
                api.patch(&name, &patch, &Patch::Apply(&body)),
            )
            .await?;
            let back = written.spec.devices.as_deref().unwrap_or_default();
            tracing::info!(
                devices = back.len(),
                generation = written.spec.pool.generation,
                "ResourceSlice written"
            );
            if slice::kept_taints(&wanted, back) {
                return Ok(());
            }
            tracing::warn!(
                "the API server drops device taints (feature gate DRADeviceTaints): devices that serve models are left out \
                 of the ResourceSlice"
            );
            self.taints_kept = false;
            old = Some(written);
        }
        Ok(())
    }

    /// How many replicas are bound to each device of this node.
    pub(super) async fn replicas(&self) -> Result<BTreeMap<String, usize>, ApiError> {
        let replicas: Api<ModelReplica> = Api::all(self.client.clone());
        let here = ListParams::default().fields(&format!("spec.nodeName={}", self.node));
        let listed = call(
            format!("list the ModelReplicas of node {}", self.node),
            replicas.list(&here),
        )
        .await?;
        let mut count = BTreeMap::new();
        for replica in listed {
            *count.entry(replica.spec.device).or_default() += 1;
        }
        Ok(count)
    }

    pub(super) async fn resource_claims(&self) -> Result<Vec<ResourceClaim>, ApiError> {
        let claims: Api<ResourceClaim> = Api::all(self.client.clone());
        let listed = call("list ResourceClaims", claims.list(&ListParams::default())).await?;
        Ok(listed.items)
    }

    /// Tells people. An event that cannot be written is no reason to stop.
    pub(super) async fn event(
        &self,
        gpu_node: &GpuNode,
        type_: EventType,
        reason: &str,
        action: &str,
        note: &str,
    ) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.chars().take(NOTE).collect()),
            action: action.chars().take(128).collect(),
            secondary: None,
        };
        let about = gpu_node.object_ref(&());
        let published = call(
            format!("write Event {reason}"),
            self.recorder.publish(&event, &about),
        )
        .await;
        if let Err(error) = published {
            tracing::warn!(%error, reason, note, "an event was not written");
        }
    }
}

fn owner(node: &Node) -> Value {
    let ObjectMeta { name, uid, .. } = &node.metadata;
    json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid})
}
