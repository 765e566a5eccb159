//! Code and documents that are derived and yet committed, so that a reader sees what is compiled and installed, and a
//! build needs no generator: Rust from `.proto` files, custom resource definitions and their reference from the types.

mod kinds;
mod reference;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::report;

pub(crate) use wire::HEADER;

/// A file as it should be; the path is relative to the root.
struct Output {
    path: PathBuf,
    text: String,
}

/// Writes, or compares, everything that is derived.
pub(crate) fn run(root: &Path, check: bool, descriptors: Option<&Path>) -> Result<()> {
    let mut outputs = Vec::new();
    outputs.extend(wire::outputs(root, descriptors)?);
    outputs.extend(kinds::outputs()?);
    outputs.push(reference::output()?);
    let mut stale = Vec::new();
    for Output { path, text } in outputs {
        let full = root.join(&path);
        if fs::read_to_string(&full).is_ok_and(|committed| committed == text) {
            continue;
        }
        if check {
            stale.push(path.display().to_string());
            continue;
        }
        if let Some(folder) = full.parent() {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        fs::write(&full, text).with_context(|| format!("write {}", full.display()))?;
        report(&format!("wrote {}", path.display()));
    }
    if !stale.is_empty() {
        bail!(
            "out of date: {}; run `cargo xtask generate` and commit the result",
            stale.join(", ")
        );
    }
    Ok(())
}
