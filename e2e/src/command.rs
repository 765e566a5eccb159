//! Other programs: run to their end, with an error that says which call failed and what it said.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs a program to its end; its output is kept for the error.
pub fn run(call: &[&str]) -> Result<()> {
    output(call).map(drop)
}

/// What a program wrote to its standard output.
pub fn output(call: &[&str]) -> Result<String> {
    read(command(call))
}

/// The same, for a command with an environment or a folder of its own.
pub fn read(mut command: Command) -> Result<String> {
    let said = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", shown(&command)))?;
    judge(&command, &said)
}

/// The same, with something to read on its standard input.
pub fn feed(mut command: Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", shown(&command)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything says why in its own words.
        let _ = stdin.write_all(input.as_bytes());
    }
    let said = child
        .wait_with_output()
        .with_context(|| format!("wait for {}", shown(&command)))?;
    judge(&command, &said)
}

/// A command from its words.
pub fn command(call: &[&str]) -> Command {
    let mut command = Command::new(call[0]);
    command.args(&call[1..]);
    command
}

/// Asks again and again until there is an answer, at most so long; an error of the last question is part of the complaint.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        let answer = ask();
        match answer {
            Ok(Some(found)) => return Ok(found),
            Err(error) if Instant::now() > end => {
                return Err(error.context(format!("after {} s still not: {what}", limit.as_secs())));
            }
            Ok(None) if Instant::now() > end => bail!("after {} s still not: {what}", limit.as_secs()),
            Ok(None) | Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn judge(command: &Command, said: &Output) -> Result<String> {
    if !said.status.success() {
        let error = String::from_utf8_lossy(&said.stderr);
        let out = String::from_utf8_lossy(&said.stdout);
        bail!(
            "{} ended with {}: {}{}",
            shown(command),
            said.status,
            error.trim(),
            out.trim()
        );
    }
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}

fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
