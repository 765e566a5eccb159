//! `afterglow-operator`: the controllers of `InferenceCluster` and `ModelDeployment`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use afterglow_operator::args::{Args, Command};
use afterglow_telemetry::{Format, Lines};
use clap::Parser;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let lines = Lines::by("AFTERGLOW_LOG", Format::Json, "info,kube_client=error");
    let _traces = afterglow_telemetry::start("afterglow-operator", lines);
    let Command::Run(options) = args.command;
    match Box::pin(serve(options.into())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the operator ends");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: afterglow_operator::Options) -> anyhow::Result<()> {
    let client = afterglow_crds::client::connect().await?;
    let shutdown = CancellationToken::new();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            shutdown.cancel();
        }
    });
    afterglow_operator::run(client, options, shutdown).await?;
    Ok(())
}
