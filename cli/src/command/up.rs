//! `afterglow up`: serves a folder of models on this machine, and keeps serving.
//!
//! The engine is a process of its own, because a hung card or a broken driver kills it; this process only starts it,
//! tells the user what is served, starts it again when it dies, and stops it in an orderly way.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use super::models;
use crate::args::{Output, Up};
use crate::client::Client;
use crate::{engine_binary, hint, render};

/// How often a starting engine is asked whether it is ready.
const POLL: Duration = Duration::from_millis(200);
/// The engine drains for at most 30 s; after this it is stuck.
const STOP_WITHIN: Duration = Duration::from_secs(40);
/// The first pause before a restart; doubled each time up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An engine that has served this long was healthy: its next death starts again at [`FIRST_PAUSE`].
const HEALTHY_AFTER: Duration = Duration::from_mins(1);

/// How an engine's life ended.
enum End {
    /// The user asked for it.
    Stopped,
    /// It died before it was ever ready: trying again would only repeat that.
    NeverReady(ExitStatus),
    /// It died after it had served.
    Died(ExitStatus),
}

/// Runs the verb.
pub(super) async fn run(args: Up, output: Output) -> Result<ExitCode> {
    if !args.dir.is_dir() {
        return Err(hint::error(
            format!("{} is not a folder", args.dir.display()),
            "give a folder that holds NAME/VERSION/model.onnx, such as examples/quickstart",
        ));
    }
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        match serve_once(&args, output).await? {
            End::Stopped => return Ok(ExitCode::SUCCESS),
            End::NeverReady(status) => {
                return Err(hint::error(
                    format!("the engine stopped before it was ready ({status})"),
                    "its own message stands above",
                ));
            }
            End::Died(status) => {
                if started.elapsed() > HEALTHY_AFTER {
                    pause = FIRST_PAUSE;
                }
                anstream::eprintln!(
                    "the engine died ({status}); starting it again in {} s",
                    pause.as_secs()
                );
                tokio::select! {
                    () = sleep(pause) => {}
                    stop = stop_signal() => { stop?; return Ok(ExitCode::SUCCESS) }
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// One engine's life: start, announce, wait, stop.
async fn serve_once(args: &Up, output: Output) -> Result<End> {
    let mut engine = start(args)?;
    let stop = stop_signal();
    tokio::pin!(stop);
    tokio::select! {
        status = engine.wait() => return Ok(End::NeverReady(status?)),
        asked = &mut stop => { asked?; return stop_engine(engine).await }
        announced = announce(args, output) => announced?,
    }
    tokio::select! {
        status = engine.wait() => Ok(End::Died(status?)),
        asked = &mut stop => { asked?; stop_engine(engine).await }
    }
}

fn start(args: &Up) -> Result<Child> {
    let mut command = engine_binary::command()?;
    command.arg("serve").arg("--repository").arg(&args.dir);
    command.args(["--http", &args.http.to_string()]);
    command.args(["--grpc", &args.grpc.to_string()]);
    command.args(["--metrics", &args.metrics.to_string()]);
    command.args(["--device", &args.device, "--die-with-parent"]);
    if args.strict {
        command.arg("--strict");
    }
    command
        .kill_on_drop(true)
        .spawn()
        .context("starting afterglow-engine")
}

/// Waits until the engine is ready, then says what is served and how to try it.
async fn announce(args: &Up, output: Output) -> Result<()> {
    let http = reachable(args.http);
    let client = Client::at(&format!("http://{http}"), Duration::from_secs(10))?;
    while client.ready().await != Some(true) {
        sleep(POLL).await;
    }
    let served = models::gather(&client).await?;
    let (grpc, metrics) = (reachable(args.grpc), reachable(args.metrics));
    match output {
        Output::Json => render::json(&json!({
            "ready": true,
            "http": format!("http://{http}"),
            "grpc": grpc.to_string(),
            "metrics": format!("http://{metrics}/metrics"),
            "models": served,
        })),
        Output::Table => render::text(format_args!(
            "\n{}\nREST and OpenAI   http://{http}\ngRPC              {grpc}\nmetrics           http://{metrics}/metrics\n",
            models::table(&served)
        )),
    }
}

/// An address to connect to for one that was listened on.
fn reachable(listened: SocketAddr) -> SocketAddr {
    if listened.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), listened.port())
    } else {
        listened
    }
}

async fn stop_signal() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn stop_engine(mut engine: Child) -> Result<End> {
    if let Some(pid) = engine.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        kill_process(pid, Signal::TERM).context("asking the engine to stop")?;
    }
    if timeout(STOP_WITHIN, engine.wait()).await.is_err() {
        anstream::eprintln!(
            "the engine did not stop within {} s and is killed",
            STOP_WITHIN.as_secs()
        );
        engine.kill().await.context("killing the engine")?;
    }
    Ok(End::Stopped)
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
}
