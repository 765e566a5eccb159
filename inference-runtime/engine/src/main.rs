//! `afterglow-engine`: the doorway.

use std::process::ExitCode;

fn main() -> ExitCode {
    engine::command::run()
}
