//! What the operator knows: one store per kind, filled by a watch, and who has to look again when something changes.
//!
//! A watch lasts 25 s at most, so that one that was cut without a word is noticed. An object that cannot be read (a newer
//! version's, or a broken one) is kept as an error in its store and stops nothing else.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use afterglow_crds::{GpuNode, InferenceCluster, ModelDeployment, ModelReplica, labels};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::DynamicObject;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::cluster::build::{Kind, MANAGED_BY};
use crate::cluster::claim::{self, Claim};
use crate::metrics::Metrics;
use crate::queue::{Key, Queue};
use crate::told::Told;

/// How long the server keeps a watch open.
const WATCH_SECONDS: u32 = 25;

/// The stores.
#[derive(Clone)]
pub(crate) struct World {
    /// The operator's namespace.
    pub(crate) namespace: Arc<str>,
    /// Of all clusters.
    pub(crate) clusters: Store<DeserializeGuard<InferenceCluster>>,
    /// In all namespaces.
    pub(crate) deployments: Store<DeserializeGuard<ModelDeployment>>,
    /// In all namespaces.
    pub(crate) replicas: Store<DeserializeGuard<ModelReplica>>,
    /// Of all clusters.
    pub(crate) gpu_nodes: Store<DeserializeGuard<GpuNode>>,
    /// Kubernetes' nodes: labels, whether cordoned.
    pub(crate) nodes: Store<DeserializeGuard<Node>>,
    /// Labels of namespaces.
    pub(crate) namespaces: Store<DeserializeGuard<Namespace>>,
    /// The agents' leases.
    pub(crate) leases: Store<DeserializeGuard<Lease>>,
    /// What this operator has made, by kind.
    pub(crate) children: Arc<HashMap<Kind, Store<DynamicObject>>>,
    /// What it has said of them.
    pub(crate) told: Arc<Told>,
}

/// Who wants to know of changes.
#[derive(Clone, Default)]
pub(crate) struct Queues {
    /// Of `InferenceCluster`s.
    pub(crate) clusters: Queue,
    /// Of `ModelDeployment`s.
    pub(crate) deployments: Queue,
    /// Replicas that wait for a finalizer.
    pub(crate) sweep: Arc<tokio::sync::Notify>,
}

impl World {
    /// Starts the watches; the stores are ready when [`World::ready`] returns.
    pub(crate) fn start(
        client: &Client,
        namespace: &str,
        kinds: &[Kind],
        queues: &Queues,
        metrics: &Metrics,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let clusters = Source::new(Api::all(client.clone()));
        let deployments = Source::new(Api::all(client.clone()));
        let replicas = Source::new(Api::all(client.clone()));
        let gpu_nodes = Source::new(Api::all(client.clone()));
        let nodes = Source::new(Api::all(client.clone()));
        let namespaces = Source::new(Api::all(client.clone()));
        let leases = Source::new(Api::namespaced(client.clone(), namespace));
        let mut stores = HashMap::new();
        let mut sources = Vec::new();
        for &kind in kinds {
            let resource = kind.resource();
            let api: Api<DynamicObject> = match kind.watched_in(namespace) {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            let source = Source::with(api, resource);
            stores.insert(kind, source.store.clone());
            sources.push(source);
        }
        let world = Self {
            namespace: namespace.into(),
            clusters: clusters.store.clone(),
            deployments: deployments.store.clone(),
            replicas: replicas.store.clone(),
            gpu_nodes: gpu_nodes.store.clone(),
            nodes: nodes.store.clone(),
            namespaces: namespaces.store.clone(),
            leases: leases.store.clone(),
            children: Arc::new(stores),
            told: Arc::default(),
        };

        let own = watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={MANAGED_BY}"));
        for source in sources {
            let (world, queues) = (world.clone(), queues.clone());
            source.spawn(own.clone(), metrics, tasks, move |change| match change {
                Change::Object(child) | Change::Gone(child) => match child.labels().get(labels::CLUSTER) {
                    Some(cluster) => queues.clusters.add(Key::cluster(cluster)),
                    // It belongs to all of them.
                    None => world.ask_clusters(&queues),
                },
                Change::Anything => world.ask_clusters(&queues),
            });
        }
        let all = watcher::Config::default;
        clusters.spawn(all(), metrics, tasks, {
            let (world, queues) = (world.clone(), queues.clone());
            let seen = Seen::default();
            // A new status is the operator's own word: it must not cut short the wait after a failure. What somebody else has
            // said there is put right at once.
            move |change| {
                let is_news = seen.is_news(&change, wish);
                match change {
                    Change::Object(cluster) | Change::Gone(cluster) => {
                        let status = cluster
                            .0
                            .as_ref()
                            .ok()
                            .and_then(|cluster| cluster.status.as_ref());
                        if world.is_contradicted(&change, status) || is_news {
                            queues.clusters.add(Key::of(cluster));
                        }
                        // They also tell of how it is.
                        world.ask_deployments(&queues, |spec| spec.cluster == cluster.name_any());
                    }
                    Change::Anything => world.ask_all(&queues),
                }
            }
        });
        deployments.spawn(all(), metrics, tasks, {
            let (world, queues) = (world.clone(), queues.clone());
            let seen = Seen::default();
            // As above.
            move |change| {
                let is_news = seen.is_news(&change, wish);
                match change {
                    Change::Object(deployment) | Change::Gone(deployment) => {
                        let status = deployment.0.as_ref().ok().and_then(|one| one.status.as_ref());
                        if world.is_contradicted(&change, status) || is_news {
                            queues.deployments.add(Key::of(deployment));
                        }
                        // The name it wants may be another's, and its namespace may need, or no longer need, a Service.
                        if is_news && let Ok(deployment) = &deployment.0 {
                            queues.clusters.add(Key::cluster(&deployment.spec.cluster));
                            world.ask_rivals(&queues, deployment);
                        }
                    }
                    Change::Anything => world.ask_all(&queues),
                }
            }
        });
        replicas.spawn(all(), metrics, tasks, {
            let (world, queues) = (world.clone(), queues.clone());
            move |change| match change {
                Change::Object(replica) => {
                    ask_owner(&queues, replica);
                    if replica.meta().deletion_timestamp.is_some() {
                        queues.sweep.notify_one();
                    }
                }
                Change::Gone(replica) => {
                    ask_owner(&queues, replica);
                    // Memory has come free: somebody may wait for it.
                    if let Some(cluster) = replica.labels().get(labels::CLUSTER) {
                        queues.clusters.add(Key::cluster(cluster));
                        world.ask_deployments(&queues, |spec| spec.cluster == *cluster);
                    }
                }
                Change::Anything => {
                    world.ask_all(&queues);
                    queues.sweep.notify_one();
                }
            }
        });
        gpu_nodes.spawn(all(), metrics, tasks, {
            let (world, queues) = (world.clone(), queues.clone());
            move |change| match change {
                Change::Object(node) | Change::Gone(node) => {
                    if let Ok(node) = &node.0 {
                        queues.clusters.add(Key::cluster(&node.spec.cluster));
                        world.ask_deployments(&queues, |spec| spec.cluster == node.spec.cluster);
                    }
                }
                Change::Anything => world.ask_all(&queues),
            }
        });
        nodes.spawn(all(), metrics, tasks, {
            let (world, queues) = (world.clone(), queues.clone());
            // A node's status changes all the time; only these parts decide anything.
            let seen = Seen::default();
            move |change| {
                if seen.is_news(&change, relevant) {
                    world.ask_all(&queues);
                }
            }
        });
        namespaces.spawn(all(), metrics, tasks, {
            let (world, queues) = (world.clone(), queues.clone());
            // As of nodes; and of a deployment only its own namespace decides anything.
            let seen = Seen::default();
            move |change| {
                if !seen.is_news(&change, relevant_namespace) {
                    return;
                }
                match change {
                    Change::Object(namespace) | Change::Gone(namespace) => {
                        world.ask_clusters(&queues);
                        world.ask_deployments_in(&queues, &namespace.name_any());
                    }
                    Change::Anything => world.ask_all(&queues),
                }
            }
        });
        // Renewals are no news; what follows from their absence is `liveness`' to say.
        leases.spawn(all(), metrics, tasks, |_| ());
        world
    }

    /// Waits until every store has been filled once.
    pub(crate) async fn ready(&self) {
        // Each waits for its own list; a writer is dropped only when its task ends, and then everything ends.
        let _ = self.clusters.wait_until_ready().await;
        let _ = self.deployments.wait_until_ready().await;
        let _ = self.replicas.wait_until_ready().await;
        let _ = self.gpu_nodes.wait_until_ready().await;
        let _ = self.nodes.wait_until_ready().await;
        let _ = self.namespaces.wait_until_ready().await;
        let _ = self.leases.wait_until_ready().await;
        for store in self.children.values() {
            let _ = store.wait_until_ready().await;
        }
    }

    /// Whose a cluster is.
    pub(crate) fn claim(&self, cluster: &impl Resource) -> Claim {
        claim::claim(cluster.meta(), &self.namespace, |namespace| {
            self.namespaces.get(&ObjectRef::new(namespace)).is_some()
        })
    }

    /// Whether what belongs to a cluster is this operator's to place and to let go.
    pub(crate) fn works_for(&self, cluster: &str) -> bool {
        let Some(cluster) = self.clusters.get(&ObjectRef::new(cluster)) else {
            // Nobody's: whatever is done about it is the same, whoever does it.
            return true;
        };
        match self.claim(&*cluster) {
            Claim::Ours => true,
            Claim::Elsewhere(_) => false,
            // Its own turn claims it first; one that is leaving or cannot be read has none in which that happens.
            Claim::Free => cluster.0.is_err() || cluster.meta().deletion_timestamp.is_some(),
        }
    }

    /// Whether an object's status is not what this operator has said last.
    fn is_contradicted<K: Resource>(&self, change: &Change<'_, K>, status: Option<&impl Serialize>) -> bool {
        match change {
            Change::Object(object) => self.told.is_contradicted(&Key::of(*object), status),
            Change::Gone(object) => {
                self.told.forget(&Key::of(*object));
                false
            }
            Change::Anything => false,
        }
    }

    /// Everybody looks again.
    pub(crate) fn ask_all(&self, queues: &Queues) {
        self.ask_clusters(queues);
        for deployment in self.deployments.state() {
            queues.deployments.add(Key::of(&*deployment));
        }
    }

    fn ask_clusters(&self, queues: &Queues) {
        for cluster in self.clusters.state() {
            queues.clusters.add(Key::of(&*cluster));
        }
    }

    fn ask_deployments(
        &self,
        queues: &Queues,
        whose: impl Fn(&afterglow_crds::model_deployment::ModelDeploymentSpec) -> bool,
    ) {
        for deployment in self.deployments.state() {
            if deployment
                .0
                .as_ref()
                .is_ok_and(|deployment| whose(&deployment.spec))
            {
                queues.deployments.add(Key::of(&*deployment));
            }
        }
    }

    fn ask_deployments_in(&self, queues: &Queues, namespace: &str) {
        for deployment in self.deployments.state() {
            if deployment.namespace().as_deref() == Some(namespace) {
                queues.deployments.add(Key::of(&*deployment));
            }
        }
    }

    /// Those in the same namespace that want the same name.
    fn ask_rivals(&self, queues: &Queues, one: &ModelDeployment) {
        for other in self.deployments.state() {
            if let Ok(rival) = &other.0
                && rival.namespace() == one.namespace()
                && crate::deployment::model_name(rival) == crate::deployment::model_name(one)
            {
                queues.deployments.add(Key::of(&*other));
            }
        }
    }
}

fn ask_owner(queues: &Queues, replica: &DeserializeGuard<ModelReplica>) {
    if let (Some(namespace), Some(deployment)) =
        (replica.namespace(), replica.labels().get(labels::DEPLOYMENT))
    {
        queues.deployments.add(Key::within(namespace, deployment));
    }
}

/// What has been seen of each object, to tell news from what decides nothing.
#[derive(Debug, Default)]
struct Seen(Mutex<HashMap<Key, u64>>);

impl Seen {
    /// Whether a change is one of what `hash` looks at.
    fn is_news<K: Resource>(&self, change: &Change<'_, K>, hash: impl Fn(&K) -> u64) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::Object(object) => {
                let hash = hash(object);
                seen.insert(Key::of(*object), hash) != Some(hash)
            }
            Change::Gone(object) => {
                seen.remove(&Key::of(*object));
                true
            }
            // What went in between would stay here.
            Change::Anything => {
                seen.clear();
                true
            }
        }
    }
}

/// What somebody wants of an object: all but its status, which is the operator's own word.
fn wish<K: Resource>(object: &DeserializeGuard<K>) -> u64 {
    let meta = object.meta();
    let mut hasher = DefaultHasher::new();
    meta.uid.hash(&mut hasher);
    meta.generation.hash(&mut hasher);
    meta.deletion_timestamp.is_some().hash(&mut hasher);
    meta.finalizers.hash(&mut hasher);
    meta.annotations.hash(&mut hasher);
    object
        .0
        .as_ref()
        .err()
        .map(|invalid| &invalid.error)
        .hash(&mut hasher);
    hasher.finish()
}

fn relevant(node: &DeserializeGuard<Node>) -> u64 {
    let mut hasher = DefaultHasher::new();
    node.labels().hash(&mut hasher);
    node.meta().deletion_timestamp.is_some().hash(&mut hasher);
    if let Ok(node) = &node.0 {
        node.spec
            .as_ref()
            .and_then(|spec| spec.unschedulable)
            .hash(&mut hasher);
    }
    hasher.finish()
}

fn relevant_namespace(namespace: &DeserializeGuard<Namespace>) -> u64 {
    let mut hasher = DefaultHasher::new();
    namespace.labels().hash(&mut hasher);
    namespace.meta().uid.hash(&mut hasher);
    namespace.meta().deletion_timestamp.is_some().hash(&mut hasher);
    hasher.finish()
}

/// What a watch has seen.
enum Change<'a, K> {
    /// An object is new or has changed.
    Object(&'a K),
    /// An object is gone.
    Gone(&'a K),
    /// The whole list was read anew: anything may have changed in between.
    Anything,
}

/// A kind to watch.
struct Source<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    api: Api<K>,
    store: Store<K>,
    writer: reflector::store::Writer<K>,
    kind: String,
}

impl<K> Source<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    fn new(api: Api<K>) -> Self {
        Self::with(api, ())
    }
}

impl<K> Source<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    fn with(api: Api<K>, dynamic: K::DynamicType) -> Self {
        let kind = K::kind(&dynamic).into_owned();
        let writer = reflector::store::Writer::new(dynamic);
        Self {
            api,
            store: writer.as_reader(),
            writer,
            kind,
        }
    }

    fn spawn(
        self,
        config: watcher::Config,
        metrics: &Metrics,
        tasks: &mut JoinSet<()>,
        changed: impl Fn(Change<'_, K>) + Send + 'static,
    ) where
        K: DeserializeOwned + Debug + Send + Sync,
        K::DynamicType: Debug + Unpin + Send + Sync,
    {
        let metrics = metrics.clone();
        let kind = self.kind;
        let events = watch(self.api, config.timeout(WATCH_SECONDS))
            .map_ok(|event| {
                event.modify(|object| {
                    object.managed_fields_mut().clear();
                })
            })
            .backoff(Patience::default())
            .reflect(self.writer);
        tasks.spawn(events.for_each(move |event| {
            match &event {
                Ok(Event::Apply(object)) => changed(Change::Object(object)),
                Ok(Event::Delete(object)) => changed(Change::Gone(object)),
                // The store takes over a new list only when it is complete.
                Ok(Event::Init | Event::InitApply(_)) => {}
                Ok(Event::InitDone) => changed(Change::Anything),
                Err(error) => {
                    metrics.api_error("watch");
                    tracing::warn!(kind, %error, "watch failed; it is tried again");
                }
            }
            std::future::ready(())
        }));
    }
}

/// How long a failed watch waits. Capped below kube's 30 s: an API server that is back is noticed within ten seconds.
#[derive(Debug, Default)]
struct Patience(u32);

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = Duration::from_millis(500).saturating_mul(1 << self.0.min(8));
        self.0 = self.0.saturating_add(1);
        Some(wait.min(Duration::from_secs(10)))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(with: &serde_json::Value) -> DeserializeGuard<ModelDeployment> {
        let mut whole = json!({
            "metadata": { "name": "bert", "namespace": "team", "uid": "u", "generation": 1 },
            "spec": { "model": { "source": { "uri": "https://x/m.onnx", "digest": "sha256:0" } } },
        });
        for (pointer, value) in with.as_object().into_iter().flatten() {
            let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
            whole.pointer_mut(parent).expect("it is there")[key] = value.clone();
        }
        serde_json::from_value(whole).expect("metadata are enough")
    }

    #[test]
    fn a_status_is_no_news_and_everything_that_somebody_wants_is() {
        let seen = Seen::default();
        let is_news = |with| seen.is_news(&Change::Object(&deployment(&with)), wish);
        assert!(is_news(json!({})), "it is new");
        assert!(!is_news(
            json!({ "/metadata/resourceVersion": "2", "/status": { "readyReplicas": 1 } })
        ));
        assert!(is_news(json!({ "/metadata/generation": 2 })));
        assert!(is_news(
            json!({ "/metadata/generation": 2, "/metadata/uid": "v" })
        ));
        assert!(is_news(
            json!({ "/metadata/generation": 2, "/metadata/uid": "v", "/spec": "unreadable" })
        ));
        assert!(seen.is_news(&Change::Gone(&deployment(&json!({}))), wish));
        assert!(is_news(json!({})), "made anew");
        let anything: Change<'_, DeserializeGuard<ModelDeployment>> = Change::Anything;
        assert!(seen.is_news(&anything, wish));
        assert!(is_news(json!({})), "the list was read anew");
    }
}
