//! `afterglow devices` and `afterglow probe`: the engine's own verbs, in a process of their own, because drivers and
//! unknown models crash.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::args::{Output, Passed};
use crate::engine_binary;

/// Runs `afterglow-engine VERB …` with this process' standard streams.
pub(crate) async fn run(verb: &str, args: &Passed, output: Output) -> Result<ExitCode> {
    let mut command = engine_binary::command()?;
    command.arg(verb).args(&args.rest);
    if output == Output::Json {
        command.args(["--output", "json"]);
    }
    let status = command.status().await.context("starting afterglow-engine")?;
    Ok(match status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => ExitCode::FAILURE,
    })
}
