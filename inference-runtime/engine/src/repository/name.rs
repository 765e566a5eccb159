//! Which folder names are model names and versions.

/// Why a folder's name cannot be a model's name; `None` if it can.
pub(crate) fn fault(name: &str) -> Option<String> {
    // What a file system takes.
    const LONGEST: usize = 255;
    if name == "stats" {
        return Some("the name `stats` is taken by the protocol (/v2/models/stats)".to_owned());
    }
    if name.is_empty() || name.len() > LONGEST {
        return Some(format!("a model's name has 1 to {LONGEST} bytes"));
    }
    if name.starts_with('.')
        || name
            .chars()
            .any(|c| c == '/' || c == '\\' || c.is_control() || c.is_whitespace())
    {
        return Some(format!(
            "`{}` is no model name: no slashes, spaces or control characters, no dot in front",
            name.escape_debug()
        ));
    }
    None
}

/// A version: a whole number without leading zeros, as it stands in the folder's name.
pub(crate) fn version(name: &str) -> Option<u64> {
    let number: u64 = name.parse().ok()?;
    (number > 0 && number.to_string() == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_paths_or_the_protocol_would_misread_are_refused() {
        for good in ["all-minilm-l6-v2", "a", "Modell_1.5", "größe"] {
            assert_eq!(fault(good), None, "{good}");
        }
        let long = "x".repeat(256);
        for bad in [
            "stats",
            "",
            ".",
            "..",
            ".git",
            "a/b",
            "a\\b",
            "a b",
            "a\n",
            "a\u{7f}",
            long.as_str(),
        ] {
            assert!(fault(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn versions_are_whole_numbers_from_one() {
        assert_eq!(version("1"), Some(1));
        assert_eq!(version("42"), Some(42));
        for bad in ["0", "01", "1.0", "+1", "-1", "a", "", "99999999999999999999"] {
            assert_eq!(version(bad), None, "{bad}");
        }
    }
}
