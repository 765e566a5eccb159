//! Where `afterglow-engine` is.

use std::path::PathBuf;

use anyhow::Result;
use tokio::process::Command;

use crate::hint;

/// The engine, ready to be given its arguments.
///
/// Mesa's rusticl is installed with every driver switched off; the card's is switched on here unless the user has said
/// otherwise, so that a machine with a card uses it as it is.
pub(crate) fn command() -> Result<Command> {
    let mut command = Command::new(find()?);
    if std::env::var_os("RUSTICL_ENABLE").is_none() {
        command.env("RUSTICL_ENABLE", "radeonsi");
    }
    Ok(command)
}

/// The engine's path: `AFTERGLOW_ENGINE`, or beside this program.
pub(crate) fn find() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("AFTERGLOW_ENGINE") {
        return Ok(path.into());
    }
    let beside = std::env::current_exe()?.with_file_name("afterglow-engine");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(hint::error(
        format!("there is no afterglow-engine at {}", beside.display()),
        "build it with `cargo build --release -p afterglow-engine`, or set AFTERGLOW_ENGINE to its path",
    ))
}
