//! Compiles every OpenCL kernel of ours with the driver of the RX 580 and judges what the driver says: no card needed.
//!
//! The driver is Debian 13's Mesa (rusticl and radeonsi) over Mesa's own no-op kernel driver, in a root file system of
//! its own. Compilation is real; nothing is executed, so this knows nothing of results or of times.

mod blocks;
mod chroot;
mod report;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::report as say;
use blocks::Log;

/// Where the result is written, relative to the repository's root.
const DOCUMENT: &str = "docs/benchmarks/polaris-gates.md";

/// Builds the example, runs it behind the driver, writes the table, and fails if a kernel is over a limit.
pub(crate) fn run(root: &Path) -> Result<()> {
    let system = chroot::prepare()?;
    let binary = build(root)?;
    let output = system.run(&binary)?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "compile_gate ended with {}; its last lines:\n{}",
        output.status,
        last_lines(&text)
    );
    let log = Log::parse(&text).context("read what the driver said")?;
    let path = root.join(DOCUMENT);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let document = report::markdown(&log, &system.mesa()?);
    std::fs::write(&path, document).with_context(|| format!("write {}", path.display()))?;
    for kernel in &log.kernels {
        say(&report::line(kernel));
    }
    let failed: Vec<String> = log.kernels.iter().filter_map(report::failure).collect();
    say(&format!(
        "{} kernels compiled, {} over a limit; wrote {DOCUMENT}",
        log.kernels.len(),
        failed.len()
    ));
    if !failed.is_empty() {
        bail!("kernels over a limit:\n{}", failed.join("\n"));
    }
    Ok(())
}

/// Builds the example and gives its path.
fn build(root: &Path) -> Result<std::path::PathBuf> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root)
        .args([
            "build",
            "--release",
            "--locked",
            "-p",
            "opencl-kernels",
            "--example",
            "compile_gate",
        ])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("run cargo")?;
    ensure!(output.status.success(), "compile_gate does not build");
    let messages = String::from_utf8_lossy(&output.stdout);
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| {
            let is_ours = message["target"]["name"] == "compile_gate";
            let path = message["executable"].as_str().filter(|_| is_ours)?;
            Some(path.into())
        })
        .context("cargo named no executable for compile_gate")
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
