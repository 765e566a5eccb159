//! No source file grows into "the place": beyond a length, it is split, or named here with its reason.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const LONGEST: usize = 600;

/// Files that are longer on purpose.
const LONG: [(&str, &str); 0] = [];

pub(super) fn check(root: &Path, files: &[String]) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for name in files.iter().filter(|name| is_source(name)) {
        let text = fs::read_to_string(root.join(name)).with_context(|| format!("read {name}"))?;
        let lines = text.lines().count();
        if lines > LONGEST && !LONG.iter().any(|(known, _)| known == name) {
            complaints.push(format!(
                "{name}: {lines} lines, more than {LONGEST}: one noun a file"
            ));
        }
    }
    Ok(complaints)
}

fn is_source(name: &str) -> bool {
    !super::generated::is_generated(name)
        && [".rs", ".cl", ".proto", ".py", ".sh"]
            .iter()
            .any(|end| name.ends_with(end))
}
