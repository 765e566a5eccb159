//! The command line of `afterglow-engine`: what was typed, and what is meant by it.

mod devices;
mod probe;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// One process, one device: serves a folder of ONNX models.
#[derive(Debug, Parser)]
#[command(name = "afterglow-engine", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve a folder of models over OIP v2 and OpenAI's embeddings
    Serve(serve::Serve),
    /// Try a model on a device: compare it with the CPU, measure it
    Probe(probe::Probe),
    /// List the OpenCL devices of this machine, test and measure them
    Devices(devices::Devices),
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Runs the program.
pub fn run() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Serve(serve) => serve.run(),
        Verb::Probe(probe) => probe.run(),
        Verb::Devices(devices) => devices.run(),
    };
    outcome.unwrap_or_else(|error| {
        anstream::eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
