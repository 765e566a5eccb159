//! The house rules: each check is a pure function from facts to complaints; this file gathers the facts.

mod edges;
mod generated;
mod kernels;
mod lengths;
mod links;
mod paths;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::report;

/// Runs every check and lists every complaint before failing.
pub(crate) fn run(root: &Path) -> Result<()> {
    let files = tracked(root)?;
    let mut complaints = Vec::new();
    complaints.extend(paths::check(root, &files)?);
    complaints.extend(links::check(root, &files)?);
    complaints.extend(lengths::check(root, &files)?);
    complaints.extend(kernels::check(root, &files)?);
    complaints.extend(generated::check(root, &files)?);
    complaints.extend(edges::check(&metadata(root)?));
    for complaint in &complaints {
        report(complaint);
    }
    if !complaints.is_empty() {
        bail!("{} complaint(s)", complaints.len());
    }
    Ok(())
}

/// The files that git knows or would add, relative to the root.
fn tracked(root: &Path) -> Result<Vec<String>> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = output(root, "git", &arguments)?;
    let mut files: Vec<String> = output
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    // A file deleted but not yet staged is still listed.
    files.retain(|name| root.join(name).exists());
    files.sort();
    files.dedup();
    Ok(files)
}

fn metadata(root: &Path) -> Result<edges::Metadata> {
    let output = output(
        root,
        env!("CARGO"),
        &["metadata", "--format-version", "1", "--no-deps", "--offline"],
    )?;
    serde_json::from_str(&output).context("read what `cargo metadata` says")
}

fn output(root: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let call = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .output()
        .with_context(|| format!("start `{call}`"))?;
    if !output.status.success() {
        bail!("`{call}`: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("read what `{call}` says"))
}
