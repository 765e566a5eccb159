//! Every path that ARCHITECTURE.md names in backticks exists: a map that points nowhere is worse than none.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const MAP: &str = "ARCHITECTURE.md";

/// A bare name counts as a path if it ends like a source file.
const SOURCES: [&str; 8] = [".rs", ".cl", ".proto", ".py", ".sh", ".toml", ".md", ".yaml"];

pub(super) fn check(root: &Path, files: &[String]) -> Result<Vec<String>> {
    let path = root.join(MAP);
    if !path.exists() {
        return Ok(vec![format!("{MAP} is missing")]);
    }
    let text = fs::read_to_string(path).with_context(|| format!("read {MAP}"))?;
    Ok(dangling(&text, files))
}

fn dangling(text: &str, files: &[String]) -> Vec<String> {
    let known = known(files);
    let top: BTreeSet<&str> = files.iter().filter_map(|name| name.split('/').next()).collect();
    let mut complaints = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        // Odd pieces of a line split at backticks are what stands between them.
        for token in line.split('`').skip(1).step_by(2) {
            if is_path(token, &top) && !known.contains(token.trim_end_matches('/')) {
                complaints.push(format!("{MAP}:{}: `{token}` does not exist", number + 1));
            }
        }
    }
    complaints
}

/// Whole paths, the folders above them, and the last parts, which may stand alone.
fn known(files: &[String]) -> BTreeSet<&str> {
    let mut known = BTreeSet::new();
    for name in files {
        known.insert(name.as_str());
        known.extend(name.match_indices('/').map(|(at, _)| &name[..at]));
        known.extend(name.match_indices('/').map(|(at, _)| &name[at + 1..]));
    }
    known
}

/// A token names a place of this repository if it starts in one of its folders, or ends like a source file. Globs,
/// placeholders in capitals, URLs and commands are not paths.
fn is_path(token: &str, top: &BTreeSet<&str>) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    if token.is_empty() || token.starts_with(['/', '-', '.']) || !token.chars().all(plain) {
        return false;
    }
    let placeholder = |part: &str| part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase());
    if token.split('/').any(placeholder) {
        return false;
    }
    let source = SOURCES.iter().any(|end| token.ends_with(end));
    match token.split_once('/') {
        Some((first, _)) => first != "target" && (top.contains(first) || source),
        None => source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<String> {
        ["Cargo.toml", "proto/src/lib.rs", "docs/guide/protocols.md"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn paths_and_folders_that_exist_pass() {
        let text =
            "See `proto/src/lib.rs`, `proto/`, `docs/guide`, `protocols.md`, `src/lib.rs` and `Cargo.toml`.";
        assert!(dangling(text, &files()).is_empty());
    }

    #[test]
    fn a_path_that_does_not_exist_is_named_with_its_line() {
        let complaints = dangling("fine\nsee `proto/src/gone.rs`", &files());
        assert_eq!(
            complaints,
            ["ARCHITECTURE.md:2: `proto/src/gone.rs` does not exist"]
        );
    }

    #[test]
    fn words_urls_and_placeholders_are_not_paths() {
        let text =
            "`cargo test`, `/v2/health`, `policy::batch`, `NAME/VERSION/model.onnx`, `*.cl`, `target/x`";
        assert!(dangling(text, &files()).is_empty());
    }

    #[test]
    fn fenced_blocks_are_not_read() {
        assert!(dangling("```\n`proto/gone.rs`\n```", &files()).is_empty());
    }
}
