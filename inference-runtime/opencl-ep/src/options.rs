//! What a user may set: session configuration under `ep.afterglowpluginexecutionprovider.`.
//!
//! ONNX Runtime drops a key whose prefix is wrong without a word, so everything under our prefix is checked: a typo
//! in a key or a value is an error that lists what would have been right.

use std::path::PathBuf;

use crate::names::OPTION_PREFIX;

/// How many plans (one per combination of input shapes) a fused node keeps unless told otherwise.
pub(crate) const DEFAULT_PLANS: usize = 32;

/// The host's switch for writing a model with the provider's compiled form in it.
const WRITE_CONTEXT: &str = "ep.context_enable";

/// The options of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// `plan_cache`: how many plans each fused node keeps; the least recently used goes first.
    pub(crate) plan_cache: usize,
    /// `cache_dir`: where compiled OpenCL programs are kept between processes.
    pub(crate) cache_dir: CacheDir,
    /// `profile`: log the time of each kernel after each run.
    pub(crate) profile: bool,
}

/// Where compiled programs are kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum CacheDir {
    /// The user's cache folder.
    Default,
    /// Nowhere.
    None,
    /// This folder.
    At(PathBuf),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            plan_cache: DEFAULT_PLANS,
            cache_dir: CacheDir::Default,
            profile: false,
        }
    }
}

const KEYS: &str = "plan_cache (1 to 4096), cache_dir (a folder, or 'none'), profile (0 or 1)";

impl Options {
    /// Reads what stands under our prefix; other keys are somebody else's.
    pub(crate) fn parse<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let mut options = Self::default();
        for (key, value) in entries {
            if (key, value) == (WRITE_CONTEXT, "1") {
                return Err(format!(
                    "'{WRITE_CONTEXT}' asks for a compiled model, which this provider does not write"
                ));
            }
            if let Some(key) = key.strip_prefix(OPTION_PREFIX) {
                options.set(key, value)?;
            }
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let wrong = || format!("'{value}' is no value for the option '{key}'; options are {KEYS}");
        match key {
            "plan_cache" => {
                self.plan_cache = value
                    .parse()
                    .ok()
                    .filter(|n| (1..=4096).contains(n))
                    .ok_or_else(wrong)?;
            }
            "cache_dir" => {
                self.cache_dir = match value {
                    "" => return Err(wrong()),
                    "none" => CacheDir::None,
                    folder => CacheDir::At(PathBuf::from(folder)),
                };
            }
            "profile" => {
                self.profile = match value {
                    "0" => false,
                    "1" => true,
                    _ => return Err(wrong()),
                };
            }
            _ => return Err(format!("there is no option '{key}'; options are {KEYS}")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entries: &[(&str, &str)]) -> Result<Options, String> {
        Options::parse(entries.iter().copied())
    }

    const P: &str = "ep.afterglowpluginexecutionprovider.";

    #[test]
    fn nothing_set_is_the_default_and_foreign_keys_are_left_alone() {
        assert_eq!(parse(&[]).unwrap(), Options::default());
        let foreign = [("session.disable_prepacking", "1"), ("ep.cuda.plan_cache", "x")];
        assert_eq!(parse(&foreign).unwrap(), Options::default());
    }

    #[test]
    fn every_option_is_read() {
        let options = parse(&[
            (&format!("{P}plan_cache"), "7"),
            (&format!("{P}cache_dir"), "/var/cache/x"),
            (&format!("{P}profile"), "1"),
        ])
        .unwrap();
        assert_eq!(options.plan_cache, 7);
        assert_eq!(options.cache_dir, CacheDir::At("/var/cache/x".into()));
        assert!(options.profile);
        assert_eq!(
            parse(&[(&format!("{P}cache_dir"), "none")]).unwrap().cache_dir,
            CacheDir::None
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_valid_ones_listed() {
        let error = parse(&[(&format!("{P}plan_cach"), "7")]).unwrap_err();
        assert!(
            error.contains("'plan_cach'") && error.contains("plan_cache"),
            "{error}"
        );
    }

    #[test]
    fn a_compiled_model_is_refused_before_anything_is_compiled() {
        assert!(
            parse(&[("ep.context_enable", "1")])
                .unwrap_err()
                .contains("does not write")
        );
        assert!(parse(&[("ep.context_enable", "0")]).is_ok());
    }

    #[test]
    fn a_wrong_value_is_refused_with_the_valid_ones_listed() {
        for (key, value) in [
            ("plan_cache", "0"),
            ("plan_cache", "many"),
            ("profile", "yes"),
            ("cache_dir", ""),
        ] {
            let error = parse(&[(&format!("{P}{key}"), value)]).unwrap_err();
            assert!(error.contains(key) && error.contains("0 or 1"), "{error}");
        }
    }
}
