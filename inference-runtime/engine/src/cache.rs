//! The folder for what can be made again: ONNX Runtime's library, probes' results.

use std::path::PathBuf;

/// Where something that was installed once may lie: `$AFTERGLOW_CACHE`, then `~/.cache/afterglow`. An agent gives its
/// engines a cache of their own; the library lies where its user has it.
pub(crate) fn folders() -> impl Iterator<Item = PathBuf> {
    let home = std::env::home_dir().map(|home| home.join(".cache/afterglow"));
    let said = folder();
    let other = home.filter(|home| Some(home) != said.as_ref());
    said.into_iter().chain(other)
}

/// `$AFTERGLOW_CACHE`, else `~/.cache/afterglow`; `None` where there is no home.
pub(crate) fn folder() -> Option<PathBuf> {
    if let Some(said) = std::env::var_os("AFTERGLOW_CACHE").filter(|path| !path.is_empty()) {
        return Some(said.into());
    }
    std::env::home_dir().map(|home| home.join(".cache/afterglow"))
}
