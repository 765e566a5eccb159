//! `afterglow up`: a folder of YAML and models, served by this machine alone.
//!
//! The same parts as in a cluster, in one process: the agent's discovery and host, the policy's placement and roll-outs, the
//! scheduler in front. Only the API server is missing: what it would say comes from the folder, what would be said to it stays
//! in memory. Engines are processes of their own here too, because a hung card or a broken driver kills them.

mod cache;
mod devices;
mod documents;
mod folders;
mod plan;
mod wanted;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use afterglow_agent::args::{CpuFallback as Search, Search as Where};
use afterglow_agent::discover::{self, Inventory};
use afterglow_agent::metrics::{Hosted, Metrics, Owner};
use afterglow_agent::{fetch, host, report};
use afterglow_crds::gpu_node::{Device, GpuNodeSpec, GpuNodeStatus};
use afterglow_crds::inference_cluster::{CpuFallback, InferenceClusterSpec};
use afterglow_crds::quantity::bytes;
use afterglow_crds::{GpuNode, ModelReplica};
use afterglow_scheduler::{Config, Fleet, Limits, Listeners, MetricsOfOthers, Options, fleet};
use afterglow_telemetry::{Format, Lines};
use anyhow::{Context as _, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::args::{Output, Up};
use crate::client::Client;
use crate::command::models;
use crate::{engine_binary, hint, render};
use cache::Cache;
use devices::Choice;
use folders::Packages;
use plan::{NODE, Plan, Standing};
use wanted::Folder;

/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What the cache may hold where no `InferenceCluster` says it.
const CACHE_BYTES: u64 = 50 << 30;

/// Runs the verb.
pub(crate) async fn run(args: Up, output: Output) -> Result<ExitCode> {
    if !args.dir.is_dir() {
        return Err(hint::error(
            format!("{} is not a folder", args.dir.display()),
            "give a folder with ModelDeployments as YAML, or with NAME/VERSION/model.onnx, such as examples/quickstart",
        ));
    }
    let _traces = afterglow_telemetry::start("afterglow", Lines::of(Format::Text, "info"));
    let choice = Choice::parse(&args.device)?;
    let engine = engine_binary::find()?;
    // Signals first: one that comes while models load is obeyed too.
    let shutdown = CancellationToken::new();
    tokio::spawn(stop_on_signal(shutdown.clone())?);
    let listeners = Listeners {
        http: bind("--http", args.http).await?,
        grpc: bind("--grpc", args.grpc).await?,
        metrics: Some(bind("--metrics", args.metrics).await?),
    };
    let machine = Machine::start(&args, choice, engine)?;
    let outcome = machine.serve(&args, output, listeners, &shutdown).await;
    machine.end().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

/// A name that Kubernetes takes, from any: lower case, digits and dashes.
pub(crate) fn plain_name(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let words: Vec<&str> = plain.split('-').filter(|word| !word.is_empty()).collect();
    let mut name = words.join("-");
    name.truncate(40);
    if name.is_empty() { "model".to_owned() } else { name }
}

/// The agent's half of this machine, and what it is told.
struct Machine {
    folder: watch::Receiver<Folder>,
    inventory: watch::Receiver<Option<Arc<Inventory>>>,
    devices: watch::Sender<Vec<Device>>,
    desired: watch::Sender<Vec<ModelReplica>>,
    host: host::Handle,
    choice: Choice,
    metrics: Arc<Metrics>,
    /// Ends discovery, host and load reports.
    stop: CancellationToken,
    _cache: Cache,
}

impl Machine {
    fn start(args: &Up, choice: Choice, engine: PathBuf) -> Result<Self> {
        let cache = Cache::claim(&args.dir)?;
        let mut packages = Packages::open(cache.path.join("packages"))?;
        let first = Folder::look(&args.dir, &mut packages);
        tell(&Folder::default(), &first);
        if args.strict
            && let Some(complaint) = first.complaints.first()
        {
            return Err(hint::error(
                complaint.clone(),
                "--strict: mend it, or leave --strict out",
            ));
        }
        let stop = CancellationToken::new();
        let metrics = Metrics::new(Owner {
            node: NODE.to_owned(),
            cluster: first.cluster_name(),
        })
        .context("making the metrics")?;
        let cluster = first.cluster.clone().map(|cluster| cluster.spec);
        let (folder_out, folder) = watch::channel(first);
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(follow(args.dir.clone(), packages, folder_out)),
        );
        let (inventory_out, inventory) = watch::channel(None);
        if choice == Choice::Cpu {
            inventory_out.send_replace(Some(Arc::default()));
        } else {
            let forbidden = choice == Choice::Auto
                && cluster
                    .as_ref()
                    .is_some_and(|cluster| cluster.cpu_fallback == CpuFallback::Forbidden);
            let search = Where {
                cpu_fallback: if forbidden {
                    Search::Forbidden
                } else {
                    Search::Allowed
                },
                engine: Some(engine.clone()),
                sysfs: "/sys".into(),
                dev: "/dev".into(),
            };
            tokio::spawn(discover::run(
                search,
                inventory_out,
                discover::Tests::undisturbed(),
                Arc::clone(&metrics),
                stop.clone(),
            ));
        }
        let mut options = host::Options::new(engine, cache.path.clone(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        options.first_port = free_block()?;
        let fetcher = fetch::Fetcher::open(fetching(&cache, cluster.as_ref())).map_err(anyhow::Error::msg)?;
        let (devices, devices_in) = watch::channel(Vec::new());
        let (desired, desired_in) = watch::channel(Vec::new());
        let host = host::spawn(
            options,
            fetcher.clone(),
            devices_in,
            desired_in.clone(),
            stop.clone(),
        );
        metrics.hosts(Hosted {
            engines: host.engines.clone(),
            statuses: host.statuses.clone(),
            desired: desired_in,
            fetcher,
        });
        Ok(Self {
            folder,
            inventory,
            devices,
            desired,
            host,
            choice,
            metrics,
            stop,
            _cache: cache,
        })
    }

    /// Serves until `shutdown`, or until `--strict` has found a model that cannot be served.
    async fn serve(
        &self,
        args: &Up,
        output: Output,
        listeners: Listeners,
        shutdown: &CancellationToken,
    ) -> Result<()> {
        let load = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("a port for load reports")?;
        let load_address = load.local_addr()?.to_string();
        tokio::spawn(report::serve(
            load,
            NODE.to_owned(),
            self.host.load.clone(),
            self.stop.clone(),
        ));

        let (fleet_out, fleet_in) = watch::channel(Arc::new(Fleet::default()));
        let (config_out, config_in) = watch::channel(Config::default());
        let (ready_out, ready_in) = watch::channel(false);
        let front = CancellationToken::new();
        let scheduler = tokio::spawn(afterglow_scheduler::serve(
            Options {
                listeners,
                cluster: self.folder.borrow().cluster_name(),
                namespace: String::new(),
                config: config_in,
                limits: Limits::default(),
                grace: Duration::ZERO,
                ready: Some(ready_in.clone()),
                metrics_of_others: Some(page_of(&self.metrics)),
            },
            fleet_in,
            front.clone(),
        ));
        let outcome = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            failed = self.reconcile(args.strict, &load_address, &fleet_out, &config_out, &ready_out) => failed,
            announced = announce(args, output, ready_in) => announced,
        };
        front.cancel();
        scheduler.await.context("the scheduler panicked")??;
        outcome
    }

    /// Brings together what is wanted and what is, for ever.
    async fn reconcile(
        &self,
        strict: bool,
        load: &str,
        fleet: &watch::Sender<Arc<Fleet>>,
        config: &watch::Sender<Config>,
        ready: &watch::Sender<bool>,
    ) -> Result<()> {
        let mut plan = Plan::default();
        let (mut folder, mut inventory, mut statuses) = (
            self.folder.clone(),
            self.inventory.clone(),
            self.host.statuses.clone(),
        );
        let mut failures: BTreeMap<(String, String), String> = BTreeMap::new();
        let mut noted = false;
        loop {
            let found = inventory.borrow_and_update().clone();
            let wanted = folder.borrow_and_update().clone();
            let known = statuses.borrow_and_update().clone();
            let spec = wanted.cluster.as_ref().map(|cluster| &cluster.spec);
            if let Some(found) = found {
                let (devices, cpu) = self.choice.of(&found.devices, spec.map(|spec| spec.cpu_fallback));
                if !std::mem::replace(&mut noted, true) {
                    note(&devices, cpu, &self.choice);
                }
                self.devices.send_if_modified(|old| changed(old, &devices));
                let standings = plan.step(&wanted.wanted, &devices, cpu, &known, &Time(Timestamp::now()));
                let desired = plan.replicas(&host::Statuses::new());
                self.desired.send_if_modified(|old| changed(old, &desired));
                config.send_if_modified(|old| changed(old, &configuration(spec)));
                let deployments: Vec<_> = standings.iter().map(|(deployment, _)| deployment).collect();
                let view = fleet::from_objects(
                    &wanted.cluster_name(),
                    &plan.replicas(&known),
                    &[node(&wanted.cluster_name(), load, devices)],
                    &deployments,
                );
                fleet.send_if_modified(|old| changed(old, &Arc::new(view)));
                let failed: BTreeMap<_, _> = standings
                    .iter()
                    .filter_map(|(deployment, standing)| match standing {
                        Standing::Failed(why) => Some((wanted::key(deployment), why.clone())),
                        _ => None,
                    })
                    .collect();
                for (key, why) in &failed {
                    if failures.get(key) != Some(why) {
                        tracing::warn!(namespace = key.0, model = key.1, "not served: {why}");
                    }
                }
                failures = failed;
                let settled = standings
                    .iter()
                    .all(|(_, standing)| *standing != Standing::Working);
                if settled && !*ready.borrow() {
                    if strict && let Some((key, why)) = failures.first_key_value() {
                        return Err(hint::error(
                            format!("model `{}` cannot be served: {why}", key.1),
                            "--strict: mend it, or leave --strict out to serve the others",
                        ));
                    }
                    ready.send_replace(true);
                }
            }
            tokio::select! {
                Ok(()) = inventory.changed() => {}
                Ok(()) = folder.changed() => {}
                Ok(()) = statuses.changed() => {}
                else => return Ok(()),
            }
        }
    }

    /// Stops the engines in an orderly way.
    async fn end(self) {
        self.stop.cancel();
        self.host.ended().await;
    }
}

/// The agent's page, engines included, for the scheduler's.
fn page_of(metrics: &Arc<Metrics>) -> MetricsOfOthers {
    let metrics = Arc::clone(metrics);
    Arc::new(move || {
        let metrics = Arc::clone(&metrics);
        Box::pin(async move {
            metrics.page().await.unwrap_or_else(|error| {
                tracing::error!(%error, "the agent's metrics cannot be written");
                String::new()
            })
        })
    })
}

/// Replaces what differs.
fn changed<T: Clone + PartialEq>(old: &mut T, new: &T) -> bool {
    let differs = old != new;
    if differs {
        old.clone_from(new);
    }
    differs
}

fn fetching(cache: &Cache, cluster: Option<&InferenceClusterSpec>) -> fetch::Options {
    let agent = cluster.map(|cluster| &cluster.agent);
    let size = agent
        .and_then(|agent| bytes(&agent.cache.size))
        .unwrap_or(CACHE_BYTES);
    let mut options = fetch::Options::new(cache.path.clone(), size);
    // The folder's owner may read these files anyway: the engines run as the same user.
    options.model_path = Some(("/".into(), "/".into()));
    let s3 = agent.and_then(|agent| agent.s3.as_ref());
    options.store = fetch::ObjectStore::from_environment(
        s3.and_then(|s3| s3.endpoint.clone()),
        s3.map_or_else(|| "us-east-1".to_owned(), |s3| s3.region.clone()),
    );
    options
}

fn configuration(cluster: Option<&InferenceClusterSpec>) -> Config {
    cluster.map_or_else(Config::default, |cluster| Config {
        strategy: cluster.scheduler.strategy,
        default_namespace: cluster.default_namespace.clone(),
    })
}

fn node(cluster: &str, load: &str, devices: Vec<Device>) -> GpuNode {
    let spec = GpuNodeSpec {
        cluster: cluster.to_owned(),
        ..GpuNodeSpec::default()
    };
    let mut node = GpuNode::new(NODE, spec);
    node.status = Some(GpuNodeStatus {
        address: Some(load.to_owned()),
        devices,
        ..GpuNodeStatus::default()
    });
    node
}

/// What people should know of the devices: a processor is never used in silence.
fn note(devices: &[Device], cpu: CpuFallback, choice: &Choice) {
    use afterglow_crds::gpu_node::DeviceType;
    let offered: Vec<&Device> = devices.iter().filter(|device| device.offered).collect();
    for device in devices.iter().filter(|device| !device.offered) {
        anstream::eprintln!(
            "{} ({}) is not used: {}",
            device.name,
            device.product_name,
            device.not_offered_because
        );
    }
    let only_processors = !offered.is_empty() && offered.iter().all(|device| device.type_ == DeviceType::Cpu);
    if offered.is_empty() {
        anstream::eprintln!("no device can serve models; `afterglow devices` says what this machine has");
    } else if only_processors && cpu == CpuFallback::Allowed && *choice == Choice::Auto {
        anstream::eprintln!(
            "no card can be used here: models run on the processor ({}). To forbid that, put an InferenceCluster with \
             cpuFallback: Forbidden into the folder",
            offered[0].product_name
        );
    }
}

/// Looks at the folder again and again.
async fn follow(dir: PathBuf, mut packages: Packages, folder: watch::Sender<Folder>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let (dir, before) = (dir.clone(), folder.borrow().clone());
        let looked = tokio::task::spawn_blocking(move || {
            let found = before.again(&dir, &mut packages);
            (packages, found)
        });
        let Ok((back, found)) = looked.await else {
            tracing::error!("looking at the folder met a bug; changes to it are not seen any more");
            return;
        };
        packages = back;
        folder.send_if_modified(|old| {
            tell(old, &found);
            changed(old, &found)
        });
    }
}

/// Says what is new among complaints and notices.
fn tell(old: &Folder, new: &Folder) {
    for complaint in new.complaints.iter().filter(|one| !old.complaints.contains(one)) {
        anstream::eprintln!("error: {complaint}");
    }
    for notice in new.notices.iter().filter(|one| !old.notices.contains(one)) {
        anstream::eprintln!("note: {notice}");
    }
}

/// Waits until everything that can be served is, then says what is served and how to reach it; then waits for ever.
async fn announce(args: &Up, output: Output, mut ready: watch::Receiver<bool>) -> Result<()> {
    let gone = ready.wait_for(|ready| *ready).await.is_err();
    if gone {
        return Ok(());
    }
    let http = reachable(args.http);
    let client = Client::at(&format!("http://{http}"), Duration::from_secs(10))?;
    let served = models::gather(&client).await?;
    let (grpc, metrics) = (reachable(args.grpc), reachable(args.metrics));
    match output {
        Output::Json => render::json(&json!({
            "ready": true,
            "http": format!("http://{http}"),
            "grpc": grpc.to_string(),
            "metrics": format!("http://{metrics}/metrics"),
            "models": served,
        }))?,
        Output::Table => render::text(format_args!(
            "\n{}\nREST and OpenAI   http://{http}\ngRPC              {grpc}\nmetrics           http://{metrics}/metrics\n",
            models::table(&served)
        ))?,
    }
    std::future::pending().await
}

/// An address to connect to for one that was listened on.
fn reachable(listened: SocketAddr) -> SocketAddr {
    if listened.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), listened.port())
    } else {
        listened
    }
}

/// The first port of a block for the engines: device i has three of the ten from `first + 10 × i`.
fn free_block() -> Result<u16> {
    const DEVICES: u16 = 16;
    // Not where the kernel takes ports for clients: one of those would come in between.
    for first in (9500..30000).step_by(usize::from(10 * DEVICES)) {
        let free = (0..DEVICES)
            .flat_map(|device| (0..3).map(move |port| first + 10 * device + port))
            .all(|port| StdListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
        if free {
            return Ok(first);
        }
    }
    Err(hint::error(
        "there is no free block of ports between 9500 and 30000 for the engines",
        "stop what listens there",
    ))
}

async fn bind(option: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        hint::error(
            format!("{option} {address} cannot be listened on: {error}"),
            "stop what listens there, or choose another address",
        )
    })
}

/// The first SIGTERM or SIGINT begins the orderly end, the second ends at once.
fn stop_on_signal(shutdown: CancellationToken) -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    Ok(async move {
        for again in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if again {
                std::process::exit(130);
            }
            shutdown.cancel();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_interfaces_is_reached_on_loopback() {
        let to = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(to("0.0.0.0:8000"), "127.0.0.1:8000");
        assert_eq!(to("[::]:8000"), "127.0.0.1:8000");
        assert_eq!(to("127.0.0.2:1"), "127.0.0.2:1");
    }

    #[test]
    fn any_name_becomes_one_that_kubernetes_takes() {
        for (name, wanted) in [
            ("Bert_Base.v2", "bert-base-v2"),
            ("--a--", "a"),
            ("größe", "gr-e"),
            ("", "model"),
        ] {
            assert_eq!(plain_name(name), wanted, "{name}");
        }
        assert_eq!(plain_name(&"x".repeat(100)).len(), 40);
    }
}
