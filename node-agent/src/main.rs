//! The node agent's program.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use afterglow_agent::args::{Arguments, Devices, Output, Run, Verb};
use afterglow_agent::discover::{self, Discovery};
use afterglow_agent::fetch::{Fetcher, ObjectStore};
use afterglow_agent::lend::{self, Ledger, Sockets};
use afterglow_agent::metrics::{Hosted, Metrics, Owner};
use afterglow_agent::{fetch, health, host, lease, offer, recovery, replicas, report};
use afterglow_crds::client;
use afterglow_crds::quantity::bytes;
use afterglow_telemetry::{Format, Lines};
use anyhow::Context as _;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// After the engines have ended, what is left is given this long.
const REST: Duration = Duration::from_secs(5);

/// Threads that a card's driver holds are left behind after this.
const THREADS: Duration = Duration::from_secs(1);

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the async runtime")?;
    let outcome = runtime.block_on(act(arguments));
    // Dropping the runtime would wait for every thread that reads a file of a card that hangs: for ever.
    runtime.shutdown_timeout(THREADS);
    outcome
}

async fn act(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.verb {
        Verb::Run(run) => {
            let _traces = afterglow_telemetry::start("afterglow-agent", Lines::of(run.log_format, "info"));
            Box::pin(serve(*run)).await?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Devices(devices) => {
            afterglow_telemetry::log(Lines::of(Format::Text, "warn"));
            Box::pin(show(devices)).await
        }
    }
}

/// What discovery says here. Fails when a device is there and not sound, so that scripts can ask.
async fn show(devices: Devices) -> anyhow::Result<ExitCode> {
    let inventory = Discovery::new(devices.search).look(false).await;
    let text = match devices.output {
        Output::Json => serde_json::to_string_pretty(&inventory.devices)? + "\n",
        Output::Table => discover::table(&inventory.devices),
    };
    anstream::stdout().write_all(text.as_bytes())?;
    for warning in &inventory.warnings {
        anstream::stderr().write_all(format!("{warning}\n").as_bytes())?;
    }
    let sound = |because: &str| because.is_empty() || because == discover::FORBIDDEN;
    let all = inventory.warnings.is_empty()
        && inventory
            .devices
            .iter()
            .all(|device| sound(&device.not_offered_because));
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Serves the node until the kubelet says that it is enough, or a part cannot go on.
async fn serve(run: Run) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let metrics = Metrics::new(Owner {
        node: run.node.clone(),
        cluster: run.cluster.clone(),
    })?;
    let client = client::connect().await.context("connecting to the API server")?;
    // host: nothing is wanted of it yet
    let (usable_out, usable) = watch::channel(Vec::new());
    let (desired_out, desired) = watch::channel(Vec::new());
    let listed = desired.clone();
    let fetcher = Fetcher::open(sources(&run)).map_err(|error| anyhow::anyhow!("{error}"))?;
    let hosting = host::Options::new(run.search.engine(), run.cache.clone(), run.pod_ip);
    let host = host::spawn(
        hosting,
        fetcher.clone(),
        usable,
        desired.clone(),
        shutdown.clone(),
    );
    metrics.hosts(Hosted {
        engines: host.engines.clone(),
        statuses: host.statuses.clone(),
        desired,
        fetcher,
    });
    let (announced_out, announced) = watch::channel(Err("starting".to_owned()));
    let (ready_out, ready) = watch::channel(Err("starting".to_owned()));
    let returning = recovery::Facts {
        announced,
        desired: listed,
        statuses: host.statuses.clone(),
    };
    let ledger = Arc::new(Ledger::new(host.occupants.clone()));
    let test_again = Arc::new(Notify::new());
    let (held_out, held) = watch::channel(None);
    let (inventory_out, inventory) = watch::channel(None);
    let (node_uid_out, node_uid) = watch::channel(None);
    let identity = offer::Identity {
        node: run.node.clone(),
        cluster: run.cluster.clone(),
        address: std::net::SocketAddr::new(run.pod_ip, run.load.port()).to_string(),
    };
    let wires = offer::Wires {
        inventory,
        usable: usable_out,
        node_uid: node_uid_out,
        ready: announced_out,
        test_again: Arc::clone(&test_again),
        held: held_out,
        ledger: Arc::clone(&ledger),
    };
    let sign = lease::Sign {
        node: run.node.clone(),
        node_uid,
        namespace: run.namespace.clone(),
        cluster: run.cluster.clone(),
        holder: format!("{}/{}", run.cluster, run.pod_ip),
    };
    let sockets = Sockets {
        kubelet: run.kubelet.clone(),
        cdi: run.cdi.clone(),
    };
    tracing::info!(node = %run.node, cluster = %run.cluster, version = env!("CARGO_PKG_VERSION"), "starting");

    let mut parts = JoinSet::new();
    let stop = || shutdown.clone();
    // discover
    let owners = Arc::clone(&ledger);
    let discovering = discover::run(
        run.search.clone(),
        inventory_out,
        discover::Tests {
            again: test_again,
            busy: Arc::new(move |device| owners.busy(device)),
            held,
            occupants: host.occupants.clone(),
        },
        Arc::clone(&metrics),
        stop(),
    );
    parts.spawn(ends(discovering));
    // offer
    parts.spawn(ends(offer::run(client.clone(), identity, wires, stop())));
    parts.spawn(ends(lease::keep(client.clone(), sign, stop())));
    let lending = lend::serve(client.clone(), run.node.clone(), sockets, ledger, stop());
    parts.spawn(async move {
        // A node without the kubelet's folders serves models all the same; it cannot lend, and its GpuNode says so.
        if let Err(error) = lending.await {
            tracing::error!("devices cannot be lent to other pods: {error:#}");
        }
        Ok(())
    });
    // report
    let statuses = host.statuses.clone();
    let (node, cluster, stopped) = (run.node.clone(), run.cluster.clone(), stop());
    parts.spawn(ends(async move {
        replicas::keep(client, &node, &cluster, desired_out, statuses, stopped).await;
    }));
    let listener = tokio::net::TcpListener::bind(run.load)
        .await
        .with_context(|| format!("listening on {} for schedulers (--load)", run.load))?;
    let reporting = report::serve(listener, run.node.clone(), host.load.clone(), stop());
    parts.spawn(async move { reporting.await.context("serving the load stream") });
    parts.spawn(ends(recovery::follow(returning, ready_out, stop())));
    parts.spawn(health::serve(run.metrics, ready, metrics, stop()));

    let mut told = signal(SignalKind::terminate())?;
    let outcome = tokio::select! {
        _ = told.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("waiting for a signal"),
        failed = failure(&mut parts) => Err(failed),
        () = host.over() => Err(anyhow::anyhow!("the part that hosts models has ended; its panic stands above in the log")),
    };
    tracing::info!("stopping");
    shutdown.cancel();
    // The host lets requests end and bounds that; nothing else has a reason to stay.
    host.ended().await;
    let others = async {
        while let Some(part) = parts.join_next().await {
            if let Ok(Err(error)) = part {
                tracing::warn!("{error:#}");
            }
        }
    };
    if tokio::time::timeout(REST, others).await.is_err() {
        tracing::warn!("a part of the agent did not stop in time and is left behind");
    }
    outcome
}

/// Where models may come from.
fn sources(run: &Run) -> fetch::Options {
    let size = bytes(&run.cache_size).unwrap_or(0);
    fetch::Options {
        model_path: run
            .model_path
            .clone()
            .map(|on_the_node| (on_the_node, run.model_path_mount.clone())),
        volumes: run.model_volumes.clone(),
        store: ObjectStore::from_environment(run.s3_endpoint.clone(), run.s3_region.clone()),
        ..fetch::Options::new(run.cache.clone(), size)
    }
}

async fn ends(part: impl Future<Output = ()>) -> anyhow::Result<()> {
    part.await;
    Ok(())
}

/// The first part that cannot go on.
async fn failure(parts: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Error {
    while let Some(part) = parts.join_next().await {
        match part {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(panicked) => return panicked.into(),
        }
    }
    anyhow::anyhow!("every part of the agent has ended")
}
