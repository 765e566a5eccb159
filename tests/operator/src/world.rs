//! A cluster of its own within the shared API server: namespaces, nodes, agents, and proxies to operators.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use afterglow_crds::condition::{self, READY};
use afterglow_crds::{GpuNode, InferenceCluster, ModelDeployment, ModelReplica};
use afterglow_e2e::tools::Tools;
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role, RoleBinding};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::agents::{Agents, Place};
use crate::operator::{Clock, Operator, Setting};
use crate::proxy::Proxy;
use crate::server::{Server, manifests};
use crate::wait::{Verdict, until, verdict};

/// How long anything may take to come to rest, unless a claim says less.
pub const REST: Duration = Duration::from_mins(1);
/// The deployment that most stories are about.
pub const MODEL: &str = "bert";

/// A world.
pub struct World {
    /// Also the cluster's name, and the beginning of every other.
    pub name: String,
    /// The operator's namespace.
    pub system: String,
    /// The clients' namespace.
    pub team: String,
    /// Its nodes.
    pub nodes: Vec<String>,
    /// May do everything.
    pub admin: Client,
    /// The agents.
    pub agents: Agents,
    upstream: Client,
    logs: PathBuf,
}

impl std::fmt::Debug for World {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "World {}", self.name)
    }
}

impl World {
    /// One with three nodes, in the shared server.
    pub async fn new(name: &str) -> Result<Self> {
        Self::with_nodes(Server::shared()?, name, 3).await
    }

    /// One with so many nodes, in the given server.
    pub async fn with_nodes(server: &Server, name: &str, nodes: usize) -> Result<Self> {
        // With a word at its end, no world's name is the beginning of another's.
        let name = &format!("{name}-world");
        let (system, team) = (format!("{name}-sys"), format!("{name}-team"));
        let admin = server.admin()?;
        let logs = server.folder().join("worlds").join(name);
        fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
        let namespaces: Api<Namespace> = Api::all(admin.clone());
        for namespace in [&system, &team] {
            let namespace = serde_json::from_value(json!({ "metadata": { "name": namespace } }))?;
            namespaces
                .create(&PostParams::default(), &namespace)
                .await
                .context("make a namespace")?;
        }
        grant(&admin, name, &system).await?;
        let nodes: Vec<String> = (0..nodes).map(|index| format!("{name}-n{index}")).collect();
        let place = Place {
            namespace: system.clone(),
            cluster: name.to_owned(),
            nodes: nodes.clone(),
        };
        let agents = Agents::start(&admin, place).await?;
        let upstream = server.as_user(&format!("system:serviceaccount:{system}:afterglow-operator"))?;
        Ok(Self {
            name: name.to_owned(),
            system,
            team,
            nodes,
            admin,
            agents,
            upstream,
            logs,
        })
    }

    /// A proxy that speaks in the operator's name.
    pub async fn proxy(&self) -> Result<Proxy> {
        Proxy::start(self.upstream.clone(), &self.name).await
    }

    /// An operator behind a proxy.
    pub fn operator(&self, identity: &str, proxy: &Proxy) -> Result<Operator> {
        self.operator_in(identity, proxy, Setting::default())
    }

    /// One with a clock of its own.
    pub fn operator_with(&self, identity: &str, proxy: &Proxy, clock: Clock) -> Result<Operator> {
        let setting = Setting {
            clock,
            ..Setting::default()
        };
        self.operator_in(identity, proxy, setting)
    }

    /// One under conditions of its own.
    pub fn operator_in(&self, identity: &str, proxy: &Proxy, setting: Setting) -> Result<Operator> {
        Operator::start(&self.system, identity, &proxy.url(), &self.logs, setting)
    }

    /// Where the operators' logs go, and what else a test leaves for whoever looks into a failure.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Deployments of the clients' namespace.
    pub fn deployments(&self) -> Api<ModelDeployment> {
        Api::namespaced(self.admin.clone(), &self.team)
    }

    /// Replicas of the clients' namespace.
    pub fn replicas(&self) -> Api<ModelReplica> {
        Api::namespaced(self.admin.clone(), &self.team)
    }

    /// All clusters, this world's among them.
    pub fn clusters(&self) -> Api<InferenceCluster> {
        Api::all(self.admin.clone())
    }

    /// Makes the cluster.
    pub async fn make_cluster(&self) -> Result<()> {
        let cluster: InferenceCluster = serde_json::from_value(json!({
            "apiVersion": "afterglow.dev/v1alpha1",
            "kind": "InferenceCluster",
            // Of all the operators in this server, the one of this world is to take it.
            "metadata": { "name": self.name, "annotations": { "afterglow.dev/operated-from": self.system } },
            "spec": {
                "agent": { "nodeSelector": { "afterglow.test/world": self.name } },
                "defaultNamespace": self.team,
            },
        }))?;
        self.clusters()
            .create(&PostParams::default(), &cluster)
            .await
            .context("make the cluster")?;
        Ok(())
    }

    /// Makes a deployment of a model; the digest is sixty-four times that digit.
    pub async fn deploy(&self, name: &str, replicas: u32, digit: char) -> Result<()> {
        let deployment = self.wish(name, replicas, digit)?;
        self.deployments()
            .create(&PostParams::default(), &deployment)
            .await
            .with_context(|| format!("make the deployment {name}"))?;
        Ok(())
    }

    /// The deployment that [`World::deploy`] makes.
    pub fn wish(&self, name: &str, replicas: u32, digit: char) -> Result<ModelDeployment> {
        let digest: String = std::iter::repeat_n(digit, 64).collect();
        Ok(serde_json::from_value(json!({
            "apiVersion": "afterglow.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": { "name": name, "namespace": self.team },
            "spec": {
                "cluster": self.name,
                "replicas": replicas,
                "model": { "source": { "uri": "https://models.test/m.onnx", "digest": format!("sha256:{digest}") } },
            },
        }))?)
    }

    /// Changes a deployment's spec.
    pub async fn change(&self, name: &str, spec: Value) -> Result<()> {
        let patch = json!({ "spec": spec });
        self.deployments()
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .with_context(|| format!("change the deployment {name}"))?;
        Ok(())
    }

    /// Deletes a deployment.
    pub async fn undeploy(&self, name: &str) -> Result<()> {
        self.deployments()
            .delete(name, &DeleteParams::default())
            .await
            .with_context(|| format!("delete the deployment {name}"))?;
        Ok(())
    }

    /// Deletes the cluster.
    pub async fn delete_cluster(&self) -> Result<()> {
        self.clusters()
            .delete(&self.name, &DeleteParams::default())
            .await
            .context("delete the cluster")?;
        Ok(())
    }

    /// Cluster and deployment are there, and so many replicas of [`MODEL`] serve.
    pub async fn set_up(&self, replicas: u32) -> Result<()> {
        self.make_cluster().await?;
        self.deploy(MODEL, replicas, '1').await?;
        self.serves(MODEL, replicas).await?;
        self.cluster_is_ready().await
    }

    /// Until a deployment says of its last wish that so many replicas serve, and no other is there.
    pub async fn serves(&self, name: &str, replicas: u32) -> Result<()> {
        self.serves_within(name, replicas, REST).await
    }

    /// The same with a deadline of its own.
    pub async fn serves_within(&self, name: &str, replicas: u32, limit: Duration) -> Result<()> {
        until(
            &format!("{}: {replicas} replicas of {name} serve", self.name),
            limit,
            async || self.serving(name, replicas).await,
        )
        .await
    }

    /// Whether it does now.
    pub async fn serving(&self, name: &str, replicas: u32) -> Result<Verdict<()>> {
        let deployment = self.deployments().get(name).await?;
        let status = deployment.status.clone().unwrap_or_default();
        let wanted = i32::try_from(replicas)?;
        let is_so = status.observed_generation == deployment.metadata.generation
            && (wanted == 0 || condition::is_true(&status.conditions, READY))
            && status.replicas == wanted
            && status.ready_replicas == wanted
            && status.updated_replicas == wanted;
        Ok(verdict(is_so, || format!("{status:?}")))
    }

    /// Until the cluster says that it is ready.
    pub async fn cluster_is_ready(&self) -> Result<()> {
        until(
            &format!("{}: the cluster is ready", self.name),
            REST,
            async || {
                let cluster = self.clusters().get(&self.name).await?;
                let status = cluster.status.unwrap_or_default();
                let is_so = condition::is_true(&status.conditions, READY)
                    && status.observed_generation == cluster.metadata.generation;
                Ok(verdict(is_so, || format!("{status:?}")))
            },
        )
        .await
    }

    /// Reason and message of a deployment's `Ready`.
    pub async fn words(&self, name: &str) -> Result<(String, String)> {
        let status = self
            .deployments()
            .get_status(name)
            .await?
            .status
            .unwrap_or_default();
        let ready = condition::find(&status.conditions, READY).context("it has no Ready condition")?;
        Ok((ready.reason.clone(), ready.message.clone()))
    }

    /// The replicas that are there, by name.
    pub async fn replica_names(&self) -> Result<Vec<String>> {
        let list = self
            .replicas()
            .list(&ListParams::default())
            .await
            .context("list the replicas")?;
        let mut names: Vec<String> = list.items.iter().map(ModelReplica::name_any).collect();
        names.sort();
        Ok(names)
    }
}

impl World {
    /// Takes away what is still there, so that the worlds that follow need not look at it. Nobody waits for it to be gone.
    pub async fn leave(self) -> Result<()> {
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        let (params, delete) = (PatchParams::default(), DeleteParams::default());
        // Deployments first: whoever sees one without its cluster takes its replicas away.
        let _ = self
            .deployments()
            .delete_collection(&delete, &ListParams::default())
            .await;
        for name in self.replica_names().await? {
            let _ = self.replicas().patch(&name, &params, &free).await;
        }
        // What is gone already need not go, and what cannot go harms nobody but the machine.
        let _ = self.clusters().patch(&self.name, &params, &free).await;
        let _ = self.clusters().delete(&self.name, &delete).await;
        for node in &self.nodes {
            let _ = Api::<GpuNode>::all(self.admin.clone())
                .delete(node, &delete)
                .await;
            let _ = Api::<Node>::all(self.admin.clone()).delete(node, &delete).await;
        }
        let bindings: Api<ClusterRoleBinding> = Api::all(self.admin.clone());
        let _ = bindings.delete(&format!("{}-operator", self.name), &delete).await;
        let namespaces: Api<Namespace> = Api::all(self.admin.clone());
        for namespace in [&self.team, &self.system] {
            let _ = namespaces.delete(namespace, &delete).await;
        }
        Ok(())
    }
}

/// The rights that `manifests/install.yaml` gives the operator, in a namespace of its own.
async fn grant(admin: &Client, world: &str, system: &str) -> Result<()> {
    let objects = manifests(&Tools::find()?.root)?;
    let once = PostParams::default();
    let mut made = 0;
    for mut object in objects {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        if object["metadata"]["namespace"].is_string() {
            object["metadata"]["namespace"] = json!(system);
        }
        for subject in object["subjects"].as_array_mut().into_iter().flatten() {
            subject["namespace"] = json!(system);
        }
        match kind.as_str() {
            "Role" => {
                let role: Role = serde_json::from_value(object)?;
                Api::namespaced(admin.clone(), system)
                    .create(&once, &role)
                    .await
                    .context("make a role")?;
            }
            "RoleBinding" => {
                let binding: RoleBinding = serde_json::from_value(object)?;
                Api::namespaced(admin.clone(), system)
                    .create(&once, &binding)
                    .await
                    .context("make a role binding")?;
            }
            "ClusterRoleBinding" => {
                object["metadata"]["name"] = json!(format!("{world}-operator"));
                let binding: ClusterRoleBinding = serde_json::from_value(object)?;
                Api::all(admin.clone())
                    .create(&once, &binding)
                    .await
                    .context("make a cluster role binding")?;
            }
            _ => continue,
        }
        made += 1;
    }
    ensure!(
        made >= 4,
        "manifests/install.yaml has {made} roles and bindings, and the operator needs more"
    );
    Ok(())
}
