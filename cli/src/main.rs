//! `afterglow`: the command line.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod client;
mod command;
mod engine_binary;
mod hint;
mod package;
mod render;
mod up;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let args = args::Args::parse();
    match command::run(args.command, args.output).await {
        Ok(code) => code,
        Err(error) if hint::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprint!("{}", hint::render(&error));
            ExitCode::FAILURE
        }
    }
}
