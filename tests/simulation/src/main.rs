//! `afterglow-simulation SEED` lives through one history and prints it; `--seeds N` lives through the first N and prints those that
//! break a rule.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use afterglow_simulation::run;
use clap::Parser;

/// Operator, agents and schedulers in a simulated cluster.
#[derive(Debug, Parser)]
struct Arguments {
    /// The history to live through, line by line.
    #[arg(default_value_t = 0)]
    seed: u64,
    /// Instead: the first so many histories; told are those that break a rule.
    #[arg(long)]
    seeds: Option<u64>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut out = anstream::stdout().lock();
    let Some(seeds) = arguments.seeds else {
        let outcome = run(arguments.seed, None, true);
        for line in &outcome.lines {
            writeln!(out, "{line}")?;
        }
        writeln!(
            out,
            "seed {}: {} events, {} writes, {} of them after the last fault (the last one {} s after), hash {:016x}",
            arguments.seed,
            outcome.events,
            outcome.writes,
            outcome.late_writes,
            outcome.settled_after,
            outcome.hash
        )?;
        return Ok(verdict(outcome.violation.is_none()));
    };
    let mut broken = 0;
    for seed in 0..seeds {
        if let Some(why) = run(seed, None, false).violation {
            broken += 1;
            writeln!(out, "seed {seed}: {why}")?;
        }
    }
    writeln!(out, "{broken} of {seeds} seeds break a rule")?;
    Ok(verdict(broken == 0))
}

fn verdict(kept: bool) -> ExitCode {
    if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
