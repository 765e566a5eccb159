//! `afterglow-scheduler`: the front door of an `InferenceCluster`.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use afterglow_scheduler::{Config, Fleet, Limits, Listeners, Options, fleet, serve, watch_file};
use afterglow_telemetry::{Format, Lines};
use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A Service goes on sending after its pod has said that it leaves, until kube-proxy of every node has heard of it.
const GRACE: Duration = Duration::from_secs(5);

/// Picks a replica for each request and forwards the request's bytes.
#[derive(Debug, Parser)]
#[command(name = "afterglow-scheduler", version, propagate_version = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the models of an `InferenceCluster`.
    Run(Run),
}

#[derive(Debug, clap::Args)]
struct Run {
    /// Name of the `InferenceCluster`.
    #[arg(long, env = "AFTERGLOW_CLUSTER")]
    cluster: String,
    /// Namespace that this runs in.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// `strategy` and `defaultNamespace`, as YAML; re-read when it changes.
    #[arg(long, env = "AFTERGLOW_CONFIG")]
    config: Option<PathBuf>,
    /// Keep the view of the fleet in this file, and start from it while the API server is away.
    #[arg(long, env = "AFTERGLOW_KEEP")]
    keep: Option<PathBuf>,
    /// Where to serve REST (Open Inference Protocol and `OpenAI` embeddings).
    #[arg(long, env = "AFTERGLOW_HTTP", default_value = "0.0.0.0:8000")]
    http: SocketAddr,
    /// Where to serve gRPC.
    #[arg(long, env = "AFTERGLOW_GRPC", default_value = "0.0.0.0:8001")]
    grpc: SocketAddr,
    /// Where to serve `/metrics`, `/healthz` and `/readyz`.
    #[arg(long, env = "AFTERGLOW_METRICS", default_value = "0.0.0.0:8002")]
    metrics: SocketAddr,
    /// How log lines are written.
    #[arg(long, env = "AFTERGLOW_LOG", value_enum, default_value_t = Format::Text)]
    log: Format,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Run(args) = Args::parse().command;
    let lines = Lines::of(args.log, "info");
    let _traces = afterglow_telemetry::start("afterglow-scheduler", lines);
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Run) -> Result<()> {
    // Signals first: one that comes while the fleet is read is obeyed too.
    let shutdown = CancellationToken::new();
    tokio::spawn(stop_on_signal(shutdown.clone())?);
    let listeners = Listeners {
        http: bind("--http", args.http).await?,
        grpc: bind("--grpc", args.grpc).await?,
        metrics: Some(bind("--metrics", args.metrics).await?),
    };
    let config = match args.config {
        Some(path) => watch_file(path).await?,
        None => watch::channel(Config::default()).1,
    };
    let client = afterglow_crds::client::connect()
        .await
        .context("making a client for the Kubernetes API: neither in a pod nor a kubeconfig")?;
    let (fleet_out, fleet) = watch::channel(Arc::new(Fleet::default()));
    let (ready_out, ready) = watch::channel(false);
    tokio::spawn(fleet::watch(client, args.cluster.clone(), args.keep, fleet_out));
    // Alive at once, ready when the fleet is known: an API server that is away is no reason to start again.
    let mut known = fleet.clone();
    tokio::spawn(async move {
        if known.wait_for(|fleet| fleet.known).await.is_ok() {
            tracing::info!("the fleet is known: ready");
            ready_out.send_replace(true);
        }
    });
    tracing::info!(
        cluster = args.cluster, http = %args.http, grpc = %args.grpc, metrics = %args.metrics,
        "afterglow-scheduler {}", env!("CARGO_PKG_VERSION")
    );
    let options = Options {
        listeners,
        cluster: args.cluster,
        namespace: args.namespace,
        config,
        limits: Limits::default(),
        grace: GRACE,
        ready: Some(ready),
        metrics_of_others: None,
    };
    serve(options, fleet, shutdown).await
}

async fn bind(option: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{option} {address} cannot be listened on"))
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
