//! The folder for what can be made again: ONNX Runtime's library, probes' results.

use std::path::PathBuf;

/// `$AFTERGLOW_CACHE`, else `~/.cache/afterglow`; `None` where there is no home.
pub(crate) fn folder() -> Option<PathBuf> {
    if let Some(said) = std::env::var_os("AFTERGLOW_CACHE").filter(|path| !path.is_empty()) {
        return Some(said.into());
    }
    std::env::home_dir().map(|home| home.join(".cache/afterglow"))
}
