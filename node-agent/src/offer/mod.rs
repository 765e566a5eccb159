//! Tells the cluster what the node has, and to whom its devices belong: `GpuNode`, node labels, `ResourceSlice`.
//!
//! One loop, level-triggered: each round looks at everything and writes what differs. A round that fails is repeated, later
//! each time.

mod labels;
mod publish;
mod slice;
pub mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use afterglow_crds::gpu_node::{Device, GpuNode, GpuNodeStatus, TestResult};
use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::discover::Inventory;
use crate::health::Readiness;
use crate::kube::ApiError;
use crate::lend::{self, Facts, Ledger, State};
use publish::{Owner, Publisher};

/// Between two rounds when nothing happens: the kubelet deletes slices of drivers that it lost.
const IDLE: Duration = Duration::from_secs(30);
/// Between two rounds while a device changes hands.
const BUSY: Duration = Duration::from_secs(2);
/// Between two rounds while a device is lent.
const LENT: Duration = Duration::from_secs(10);
/// After a device came back, claims are still looked at: the allocator may have acted on an old slice.
const WATCHFUL: u32 = 5;
/// After a round that failed, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// On a `GpuNode`, written by people: any new value makes the agent test its devices again.
pub const SELF_TEST: &str = "afterglow.dev/self-test";

/// What connects the offering to the agent's other parts.
pub struct Wires {
    /// What discovery found.
    pub inventory: watch::Receiver<Option<Arc<Inventory>>>,
    /// The devices as engines may use them.
    pub usable: watch::Sender<Vec<Device>>,
    /// The node's UID, while the node is ours.
    pub node_uid: watch::Sender<Option<String>>,
    /// Whether the cluster knows of the devices.
    pub ready: watch::Sender<Readiness>,
    /// Asks discovery for a new test.
    pub test_again: Arc<Notify>,
    /// Which devices pods of others hold: discovery leaves them alone.
    pub held: watch::Sender<Option<BTreeSet<String>>>,
    /// To whom devices belong.
    pub ledger: Arc<Ledger>,
}

/// Who offers.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The node.
    pub node: String,
    /// The `InferenceCluster`.
    pub cluster: String,
    /// Where the load stream is.
    pub address: String,
}

/// Offers until it is told to stop. What was said stays: the lease tells that the agent is gone.
pub async fn run(client: Client, identity: Identity, wires: Wires, shutdown: CancellationToken) {
    let touched = Arc::new(Notify::new());
    let watching = watch_gpu_node(client.clone(), identity.node.clone(), Arc::clone(&touched));
    let mut watching = pin!(watching);
    let mut inventory = wires.inventory.clone();
    let ledger = Arc::clone(&wires.ledger);
    let mut offer = Offer {
        publisher: Publisher::new(client, &identity.node, &identity.cluster),
        identity,
        wires,
        lending: None,
        watchful: 0,
        tested: None,
    };
    let mut retry = RETRY.0;
    loop {
        let wait = match offer.round().await {
            Ok(wait) => {
                retry = RETRY.0;
                wait
            }
            Err(error) => {
                tracing::warn!(%error, seconds = retry.as_secs(), "trying again");
                offer.wires.ready.send_if_modified(|ready| {
                    // A node that was announced stays so: an API server that is away for a while changes nothing here.
                    let news = ready.is_err();
                    if news {
                        *ready = Err(error.to_string());
                    }
                    news
                });
                let wait = retry;
                retry = (retry * 2).min(RETRY.1);
                wait
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = &mut watching => {}
            () = touched.notified() => {}
            // Its next owner waits for this round.
            () = ledger.left() => {}
            changed = inventory.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn watch_gpu_node(client: Client, node: String, touched: Arc<Notify>) {
    let config = watcher::Config::default()
        .fields(&format!("metadata.name={node}"))
        .timeout(25);
    let mut events = pin!(watcher(Api::<GpuNode>::all(client), config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            // The start of a list, also of one that will fail: nothing is known yet.
            Ok(watcher::Event::Init) => {}
            Ok(_) => touched.notify_one(),
            Err(error) => tracing::debug!(%error, "watching GpuNode {node}"),
        }
    }
}

/// The value of [`SELF_TEST`], if it is there.
type TestRequest = Option<String>;

struct Offer {
    publisher: Publisher,
    identity: Identity,
    wires: Wires,
    /// To whom devices belong; `None` before the first round, when what pods hold is found out.
    lending: Option<BTreeMap<String, State>>,
    watchful: u32,
    /// The request for a test that was last heeded, once one was looked for.
    tested: Option<TestRequest>,
}

impl Offer {
    /// One round; it answers when the next is due.
    async fn round(&mut self) -> Result<Duration, ApiError> {
        let inventory = self.wires.inventory.borrow().clone();
        // First what needs no API server: a card that has become too hot must not serve on because nobody could be told.
        if let (Some(inventory), Some(lending)) = (&inventory, &self.lending) {
            let mut known = inventory.devices.clone();
            // Whether somebody has claimed a new one only the API server knows.
            known.retain(|device| lending.contains_key(&device.name));
            self.tell_engines(&known, lending);
        }
        let node = self.publisher.node().await?;
        let gpu_node = match self.publisher.claim(&node).await? {
            Owner::Ours(gpu_node) => *gpu_node,
            Owner::NotOurs(why) => {
                if self.not_ready(&why) {
                    tracing::error!("{why}");
                }
                self.wires.node_uid.send_replace(None);
                self.lending = None;
                send_if_new(&self.wires.usable, Vec::new());
                return Ok(IDLE);
            }
        };
        // The sign of life waits for no test: that takes minutes, and a silent node is taken for dead after 30 s.
        send_if_new(&self.wires.node_uid, node.uid());
        self.heed_test_request(&gpu_node);
        let Some(inventory) = inventory else {
            // Nothing is tested before this is known.
            if self.publisher.serves_slices().await? {
                self.claims().await?;
            } else {
                self.holds(BTreeSet::new());
            }
            self.not_ready("the devices are being looked for and tested");
            return Ok(IDLE);
        };

        let mut warnings = inventory.warnings.clone();
        let lending = self.step(&gpu_node, &inventory, &mut warnings).await?;
        let devices = lend::for_placement(&inventory.devices, &lending);
        self.tell_engines(&inventory.devices, &lending);

        let facts = status::Facts {
            devices: &devices,
            lending: &lending,
            warnings: &warnings,
            address: &self.identity.address,
            generation: gpu_node.metadata.generation,
        };
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH);
        let status = status::status(&facts, gpu_node.status.as_ref(), Time(now));
        // The status before the slice: nobody may place a model any more when the first claim can come.
        self.publisher.status(&gpu_node, &status).await?;
        self.publisher
            .labels(&node, &labels::labels(&self.identity.cluster, &devices))
            .await?;
        self.publisher
            .slice(&node, |taints_kept| {
                slice::devices(&inventory, &lending, taints_kept)
            })
            .await?;
        for (type_, reason, device, note) in news(gpu_node.status.as_ref(), &status) {
            let action = format!("Offer {device}");
            self.publisher
                .event(&gpu_node, type_, reason, &action, &note)
                .await;
        }
        self.wires.ready.send_if_modified(|ready| {
            let news = ready.is_err();
            *ready = Ok(());
            news
        });
        let wait = self.pace(&gpu_node, &lending);
        self.lending = Some(lending);
        Ok(wait)
    }

    fn tell_engines(&self, devices: &[Device], lending: &BTreeMap<String, State>) {
        self.wires.ledger.record(devices, lending);
        // All of them: a replica on a device that may not be used any more is told why.
        let usable = lend::for_engines(devices, lending);
        send_if_new(&self.wires.usable, usable);
    }

    /// Whether that is news.
    fn not_ready(&self, why: &str) -> bool {
        send_if_new(&self.wires.ready, Err(why.to_owned()))
    }

    fn heed_test_request(&mut self, gpu_node: &GpuNode) {
        let asked = gpu_node.annotations().get(SELF_TEST).cloned();
        if self.tested.as_ref().is_some_and(|last| *last != asked) {
            tracing::info!("a new test of the devices was asked for");
            self.wires.test_again.notify_one();
        }
        self.tested = Some(asked);
    }

    /// To whom the devices belong from now on.
    async fn step(
        &mut self,
        gpu_node: &GpuNode,
        inventory: &Inventory,
        warnings: &mut Vec<String>,
    ) -> Result<BTreeMap<String, State>, ApiError> {
        let wanted = &gpu_node.spec.lend;
        let slices = self.publisher.serves_slices().await?;
        let can = slices && self.wires.ledger.registered();
        for name in wanted {
            if !inventory.devices.iter().any(|device| device.name == *name) {
                warnings.push(format!("spec.lend names {name}, which is no device of this node"));
            } else if !slices {
                warnings.push(format!(
                    "{name} cannot be lent (spec.lend): this cluster has no resource.k8s.io/v1, which Kubernetes 1.34 brings"
                ));
            } else if !can {
                warnings.push(format!(
                    "{name} cannot be lent (spec.lend): the kubelet has not taken the agent's DRA plugin; see the agent's log"
                ));
            }
        }
        let before = self.lending.clone();
        let at_rest = before
            .as_ref()
            .is_some_and(|lending| lending.values().all(|state| *state == State::Serving));
        if at_rest {
            self.watchful = self.watchful.saturating_sub(1);
        } else {
            self.watchful = WATCHFUL;
        }
        let (mut replicas, mut claims) = (BTreeMap::new(), BTreeMap::new());
        let is_held = self
            .wires
            .held
            .borrow()
            .as_ref()
            .is_some_and(|held| !held.is_empty());
        if slices && (!wanted.is_empty() || !at_rest || self.watchful > 0 || is_held) {
            replicas = self.publisher.replicas().await?;
            claims = self.claims().await?;
        }
        let step = |device: &Device| {
            let name = &device.name;
            let state = before.as_ref().and_then(|lending| lending.get(name)).copied();
            let facts = Facts {
                // What is lent stays so while the kubelet restarts.
                wanted: wanted.contains(name) && (can || state.is_some_and(|state| !state.tainted())),
                replicas: replicas.get(name).copied().unwrap_or(0),
                claims: claims.get(name).copied().unwrap_or(0),
                occupied: self.wires.ledger.occupied(name),
            };
            let next = match (state, &before) {
                (Some(state), _) => state.next(facts),
                // Found just now, or an agent that has just started: its plugin is not registered yet.
                (None, _) => State::at_start(Facts {
                    wanted: wanted.contains(name),
                    ..facts
                }),
            };
            if state.is_some_and(|state| state != next) {
                tracing::info!(device = %name, from = ?state.unwrap_or_default(), to = ?next, ?facts, "a device changes hands");
            }
            (name.clone(), next)
        };
        Ok(inventory.devices.iter().map(step).collect())
    }

    /// How many claims hold each device, also told to discovery.
    async fn claims(&self) -> Result<BTreeMap<String, usize>, ApiError> {
        let claims = lend::held(&self.publisher.resource_claims().await?, &self.identity.node);
        self.holds(claims.keys().cloned().collect());
        Ok(claims)
    }

    fn holds(&self, devices: BTreeSet<String>) {
        send_if_new(&self.wires.held, Some(devices));
    }

    fn pace(&self, gpu_node: &GpuNode, lending: &BTreeMap<String, State>) -> Duration {
        let starting = lending
            .iter()
            .any(|(name, state)| *state == State::Serving && gpu_node.spec.lend.contains(name));
        if lending.values().any(|state| state.moving()) || (starting && self.wires.ledger.registered()) {
            BUSY
        } else if starting || lending.values().any(|state| !state.tainted()) {
            LENT
        } else {
            IDLE
        }
    }
}

fn send_if_new<T: PartialEq>(sender: &watch::Sender<T>, value: T) -> bool {
    sender.send_if_modified(|last| {
        let news = *last != value;
        if news {
            *last = value;
        }
        news
    })
}

/// What people should hear: a device that failed its test, was withdrawn, or is back.
fn news(old: Option<&GpuNodeStatus>, new: &GpuNodeStatus) -> Vec<(EventType, &'static str, String, String)> {
    let before = |name: &str| old?.devices.iter().find(|device| device.name == name);
    let mut news = Vec::new();
    for device in &new.devices {
        let before = before(&device.name);
        let because = &device.not_offered_because;
        let heard = before.is_some_and(|before| before.not_offered_because == *because);
        let (type_, reason, note) = if status::faulty(device) && !heard {
            let reason = match device.self_test.result {
                TestResult::Failed => "SelfTestFailed",
                _ => "DeviceWithheld",
            };
            (
                EventType::Warning,
                reason,
                format!(
                    "{} ({}) is not offered: {because}",
                    device.name, device.product_name
                ),
            )
        } else if device.offered && before.is_some_and(|before| !before.offered) {
            (
                EventType::Normal,
                "DeviceOffered",
                format!("{} ({}) is offered", device.name, device.product_name),
            )
        } else {
            continue;
        };
        news.push((type_, reason, device.name.clone(), note));
    }
    news
}

#[cfg(test)]
mod tests {
    use axum::http::{Request as HttpRequest, Response as HttpResponse};
    use serde_json::json;

    use super::*;

    fn device(because: &str, result: TestResult) -> GpuNodeStatus {
        let mut device = Device {
            name: "gpu-a".into(),
            product_name: "RX 580".into(),
            offered: because.is_empty(),
            not_offered_because: because.into(),
            ..Device::default()
        };
        device.self_test.result = result;
        GpuNodeStatus {
            devices: vec![device],
            ..GpuNodeStatus::default()
        }
    }

    #[test]
    fn people_hear_of_a_fault_once_and_of_its_end() {
        let good = device("", TestResult::Passed);
        let failed = device("it failed its self-test: wrong", TestResult::Failed);
        let hot = device("it is too hot", TestResult::Passed);
        let lent = device(State::Lent.because(), TestResult::Passed);
        let reasons = |old: Option<&GpuNodeStatus>, new| -> Vec<&str> {
            news(old, new)
                .into_iter()
                .map(|(_, reason, _, _)| reason)
                .collect()
        };
        assert_eq!(reasons(None, &failed), ["SelfTestFailed"]);
        assert!(reasons(Some(&failed), &failed).is_empty(), "said already");
        assert_eq!(reasons(Some(&good), &hot), ["DeviceWithheld"]);
        assert_eq!(reasons(Some(&hot), &good), ["DeviceOffered"]);
        assert!(
            reasons(Some(&good), &lent).is_empty(),
            "lending is a wish, not a fault"
        );
        assert!(reasons(None, &good).is_empty());
    }

    /// An API server that knows our node, its `GpuNode` and a claim that holds its device `gpu-a`, or fails at everything.
    fn api_server(well: bool) -> Client {
        let service = tower::service_fn(move |request: HttpRequest<kube::client::Body>| {
            let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "rig", "uid": "uid-of-rig"}]);
            let labels = json!({afterglow_crds::labels::CLUSTER: "lab"});
            let body = match request.uri().path() {
                _ if !well => None,
                "/api/v1/nodes/rig" => Some(json!({
                    "apiVersion": "v1", "kind": "Node", "metadata": {"name": "rig", "uid": "uid-of-rig"},
                })),
                "/apis/afterglow.dev/v1alpha1/gpunodes/rig" => Some(json!({
                    "apiVersion": "afterglow.dev/v1alpha1", "kind": "GpuNode", "spec": {"cluster": "lab"},
                    "metadata": {"name": "rig", "labels": labels, "ownerReferences": owner},
                })),
                "/apis/resource.k8s.io/v1" => Some(json!({
                    "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "resource.k8s.io/v1",
                    "resources": [{
                        "name": "resourceslices", "singularName": "resourceslice", "namespaced": false,
                        "kind": "ResourceSlice", "verbs": ["get"],
                    }],
                })),
                "/apis/resource.k8s.io/v1/resourceclaims" => Some(json!({
                    "kind": "ResourceClaimList", "apiVersion": "resource.k8s.io/v1", "metadata": {},
                    "items": [{
                        "metadata": {"namespace": "team", "name": "c"}, "spec": {},
                        "status": {"allocation": {"devices": {"results": [{
                            "driver": afterglow_crds::labels::DRIVER, "pool": "rig", "device": "gpu-a", "request": "r",
                        }]}}},
                    }],
                })),
                _ => None,
            };
            let response = match body {
                Some(body) => {
                    HttpResponse::builder().body(kube::client::Body::from(body.to_string().into_bytes()))
                }
                None => HttpResponse::builder()
                    .status(500)
                    .body(kube::client::Body::empty()),
            };
            async { Ok::<_, std::convert::Infallible>(response.unwrap()) }
        });
        Client::new(service, "default")
    }

    struct Ends {
        inventory: watch::Sender<Option<Arc<Inventory>>>,
        usable: watch::Receiver<Vec<Device>>,
        node_uid: watch::Receiver<Option<String>>,
        ready: watch::Receiver<Readiness>,
        held: watch::Receiver<Option<BTreeSet<String>>>,
    }

    fn offer(well: bool) -> (Offer, Ends) {
        let (inventory_out, inventory) = watch::channel(None);
        let (usable, usable_in) = watch::channel(Vec::new());
        let (node_uid, node_uid_in) = watch::channel(None);
        let (ready, ready_in) = watch::channel(Ok(()));
        let (held, held_in) = watch::channel(None);
        let offer = Offer {
            publisher: Publisher::new(api_server(well), "rig", "lab"),
            identity: Identity {
                node: "rig".into(),
                cluster: "lab".into(),
                address: "10.0.0.1:9400".into(),
            },
            wires: Wires {
                inventory,
                usable,
                node_uid,
                ready,
                test_again: Arc::default(),
                held,
                ledger: Arc::default(),
            },
            lending: None,
            watchful: 0,
            tested: None,
        };
        let ends = Ends {
            inventory: inventory_out,
            usable: usable_in,
            node_uid: node_uid_in,
            ready: ready_in,
            held: held_in,
        };
        (offer, ends)
    }

    #[tokio::test]
    async fn a_node_gives_a_sign_of_life_while_its_devices_are_still_tested() {
        let (mut offer, ends) = offer(true);
        offer.round().await.unwrap();
        assert_eq!(ends.node_uid.borrow().as_deref(), Some("uid-of-rig"));
        let ready = ends.ready.borrow().clone();
        assert!(ready.unwrap_err().contains("tested"), "alive is not ready");
    }

    #[tokio::test]
    async fn what_pods_hold_is_known_before_anything_is_tested() {
        let (mut offer, ends) = offer(false);
        offer.round().await.unwrap_err();
        assert_eq!(*ends.held.borrow(), None, "who cannot ask knows nothing");
        let (mut offer, ends) = self::offer(true);
        offer.round().await.unwrap();
        assert_eq!(*ends.held.borrow(), Some(BTreeSet::from(["gpu-a".to_owned()])));
    }

    #[tokio::test]
    async fn engines_hear_of_a_device_that_is_ill_though_the_api_server_is_away() {
        let (mut offer, ends) = offer(false);
        let mut inventory = Inventory {
            devices: device("", TestResult::Passed).devices,
            ..Inventory::default()
        };
        offer.lending = Some(BTreeMap::from([("gpu-a".to_owned(), State::Serving)]));
        for because in ["", "it is too hot"] {
            inventory.devices[0].offered = because.is_empty();
            because.clone_into(&mut inventory.devices[0].not_offered_because);
            ends.inventory.send_replace(Some(Arc::new(inventory.clone())));
            offer.round().await.unwrap_err();
            assert_eq!(*ends.usable.borrow(), inventory.devices);
        }
    }
}
