//! `afterglow-engine serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use afterglow_telemetry::{Format, Lines};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::session::{DeviceChoice, PROVIDER};
use crate::wire::{self, Listeners};
use crate::{Engine, Limits, Options, probe};

/// How long queued work may take after the servers have stopped.
const FINISH_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Folder of models: NAME/VERSION/model.onnx, here or below a folder `models`
    #[arg(long, value_name = "DIR")]
    repository: PathBuf,
    /// Where REST and OpenAI's API listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    http: SocketAddr,
    /// Where gRPC listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8001")]
    grpc: SocketAddr,
    /// Where Prometheus finds metrics
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8002")]
    metrics: SocketAddr,
    /// auto (first GPU, else first OpenCL device), opencl[:N], or cpu
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// A model that cannot be served ends the engine
    #[arg(long)]
    strict: bool,
    /// Seconds after which a probe is stopped
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    probe_limit: u64,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    log: Format,
    /// End when the parent process, which is this one, ends
    #[arg(long, value_name = "PID", hide = true)]
    die_with_parent: Option<i32>,
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode> {
        probe::end_with_parent(self.die_with_parent)?;
        ort_ep_sys::session::keep_heap_small();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("starting the async runtime")?;
        let outcome = runtime.block_on(async {
            // What ONNX Runtime logs it also answers, and a client that sends bad indices must not fill the log.
            let lines = Lines::of(self.log, "info,onnxruntime=off");
            let _traces = afterglow_telemetry::start("afterglow-engine", lines);
            self.serve().await
        });
        // A load that nothing can interrupt must not keep the process from ending.
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    }

    async fn serve(self) -> Result<ExitCode> {
        // Signals first: one that comes while models load is obeyed too.
        let stop = CancellationToken::new();
        tokio::spawn(stop_on_signal(stop.clone())?);
        let listeners = Listeners {
            http: bind("--http", self.http).await?,
            grpc: bind("--grpc", self.grpc).await?,
            metrics: Some(bind("--metrics", self.metrics).await?),
        };
        let options = Options {
            repository: self.repository,
            device: self.device,
            limits: Limits::default(),
            program: std::env::current_exe().context("finding this program, which also probes")?,
            probe_limit: Duration::from_secs(self.probe_limit),
            profiles: None,
        };
        let engine = tokio::task::spawn_blocking(move || Engine::new(options)).await??;
        let device = engine.device();
        let provider = if device == "cpu" {
            "CPUExecutionProvider"
        } else {
            PROVIDER
        };
        tracing::info!(
            device,
            provider,
            onnxruntime = engine.runtime_version(),
            repository = %engine.repository().display(),
            "afterglow-engine {}",
            env!("CARGO_PKG_VERSION")
        );
        let servers = tokio::spawn(wire::serve(engine.clone(), listeners, stop.clone()));
        let failed = tokio::select! {
            failed = engine.scan() => failed,
            () = stop.cancelled() => Vec::new(),
        };
        let refused = if self.strict { failed.first() } else { None };
        if refused.is_none() && !stop.is_cancelled() {
            tracing::info!(failed = failed.len(), http = %self.http, grpc = %self.grpc, metrics = %self.metrics, "ready");
            stop.cancelled().await;
        }
        engine.drain();
        stop.cancel();
        servers.await.context("the servers panicked")?;
        if tokio::time::timeout(FINISH_WITHIN, engine.finish())
            .await
            .is_err()
        {
            tracing::error!("queued requests took more than {FINISH_WITHIN:?} and are given up");
        }
        match refused {
            Some((_, error)) => bail!("--strict: {error}"),
            None => Ok(ExitCode::SUCCESS),
        }
    }
}

async fn bind(option: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{option} {address} cannot be listened on"))
}

/// The first SIGTERM or SIGINT begins the orderly end, the second ends at once.
fn stop_on_signal(stop: CancellationToken) -> Result<impl Future<Output = ()>> {
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
            tracing::info!("draining: no longer ready, running requests finish");
            stop.cancel();
        }
    })
}
