//! Generated files say so twice: in their first line for readers, and in `.gitattributes` for review tools.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::generate::HEADER;

const MARK: &str = "**/generated/** linguist-generated=true";

pub(super) fn is_generated(name: &str) -> bool {
    name.contains("/generated/")
}

pub(super) fn check(root: &Path, files: &[String]) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for name in files.iter().filter(|name| is_generated(name)) {
        let text = fs::read_to_string(root.join(name)).with_context(|| format!("read {name}"))?;
        if text.lines().next() != Some(HEADER) {
            complaints.push(format!("{name}: lies among generated files without their header"));
        }
    }
    let attributes = fs::read_to_string(root.join(".gitattributes")).unwrap_or_default();
    if !attributes.lines().any(|line| line == MARK) {
        complaints.push(format!(".gitattributes: the line `{MARK}` is missing"));
    }
    Ok(complaints)
}
