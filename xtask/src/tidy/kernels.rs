//! No kernel calls `fma()`: Mesa emulates it in software on Polaris, ten times the code. `a * b + c` and `mad` become one
//! instruction there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

pub(super) fn check(root: &Path, files: &[String]) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for name in files.iter().filter(|name| is_kernel(name)) {
        let text = fs::read_to_string(root.join(name)).with_context(|| format!("read {name}"))?;
        complaints.extend(emulated(&text).map(|line| {
            format!("{name}:{line}: `fma` is emulated on Polaris: write a * b + c, or mad(a, b, c)")
        }));
    }
    Ok(complaints)
}

fn is_kernel(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "cl")
}

/// The lines that call it; comments may name it.
fn emulated(text: &str) -> impl Iterator<Item = usize> {
    let calls = |line: &str| {
        let code = line.split("//").next().unwrap_or(line);
        code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .any(|word| word == "fma")
    };
    text.lines()
        .enumerate()
        .filter_map(move |(number, line)| calls(line).then_some(number + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_found_and_other_words_are_not() {
        let text = "x = fmax(a, b); // never fma(a, b, c)\ny = mad(a, b, c);\nz = fma (a, b, c);";
        assert_eq!(emulated(text).collect::<Vec<_>>(), [3]);
    }
}
