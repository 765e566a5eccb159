//! `afterglow devices` and `afterglow probe`: the engine's own verbs, in a process of their own, because drivers and
//! unknown models crash.

use std::process::ExitCode;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::args::{Output, Passed};
use crate::engine_binary;

/// Runs `afterglow-engine VERB …` with this process' standard streams.
pub(crate) async fn run(verb: &str, args: &Passed, output: Output) -> Result<ExitCode> {
    let engine = engine_binary::find()?;
    let mut command = Command::new(&engine);
    command.arg(verb).args(&args.rest);
    if output == Output::Json {
        command.args(["--output", "json"]);
    }
    let status = command
        .status()
        .await
        .with_context(|| format!("starting {}", engine.display()))?;
    Ok(match status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => ExitCode::FAILURE,
    })
}
