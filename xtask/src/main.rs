//! Commands that are too long for the Makefile: `generate` writes code that is committed, `tidy` checks the house rules
//! that no linter knows, `kernel-gate` compiles our kernels for the card.

mod gate;
mod generate;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

/// Chores of the repository.
#[derive(Parser)]
enum Command {
    /// Write the generated code anew.
    Generate {
        /// Write nothing; fail if what is committed differs from what would be written.
        #[arg(long)]
        check: bool,
        /// Also write the protocol's descriptors here, for tests that compare them with other implementations.
        #[arg(long, value_name = "FILE")]
        descriptors: Option<PathBuf>,
    },
    /// Check paths in ARCHITECTURE.md, file lengths, crate edges and headers of generated files.
    Tidy,
    /// Compile every kernel with the RX 580's driver, no card needed; write the figures; fail on spills or scratch.
    KernelGate,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let root = repository()?;
    match Command::parse() {
        Command::Generate { check, descriptors } => generate::run(&root, check, descriptors.as_deref()),
        Command::Tidy => tidy::run(&root),
        Command::KernelGate => gate::run(&root),
    }
}

/// The repository's root: the folder above this crate, wherever the command is called from.
fn repository() -> Result<PathBuf> {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .context("find the repository's root: was the repository moved after xtask was built?")
}

#[expect(clippy::print_stderr, reason = "what this program says is its result")]
fn report(line: &str) {
    eprintln!("{line}");
}
