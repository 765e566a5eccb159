//! One file per verb.

mod bench;
mod embed;
mod infer;
pub(crate) mod models;
mod pack;
mod passed;

use std::process::ExitCode;

use anyhow::Result;

use crate::args::{Command, Output};

/// Runs a verb.
pub(crate) async fn run(command: Command, output: Output) -> Result<ExitCode> {
    match command {
        Command::Up(args) => Box::pin(crate::up::run(args, output)).await,
        Command::Pack(args) => pack::run(args, output).await,
        Command::Devices(args) => passed::run("devices", &args, output).await,
        Command::Probe(args) => passed::run("probe", &args, output).await,
        Command::Models(args) => models::run(&args, output).await,
        Command::Infer(args) => infer::run(&args, output).await,
        Command::Embed(args) => embed::run(args, output).await,
        Command::Bench(args) => bench::run(args, output).await,
    }
}
