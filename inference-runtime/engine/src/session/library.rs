//! Where ONNX Runtime's shared library is.

use std::path::{Path, PathBuf};

use crate::cache;

/// The release that we ship and test.
pub(super) const VERSION: &str = "1.31.1";

/// There is no library, or not where it was said to be.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// `ORT_DYLIB_PATH` names nothing.
    #[error(
        "ORT_DYLIB_PATH names `{}`, which is not a file; point it at libonnxruntime.so.{VERSION} or unset it",
        .0.display()
    )]
    NotWhereSaid(PathBuf),
    /// None of the usual places has it.
    #[error(
        "ONNX Runtime {VERSION} was not found (looked at {}); `make run` installs it, or set ORT_DYLIB_PATH to \
         libonnxruntime.so.{VERSION} of the PyPI wheel onnxruntime=={VERSION}",
        list(.0)
    )]
    Missing(Vec<PathBuf>),
}

fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|p| format!("`{}`", p.display()))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Where our images put libraries; the executable itself lies in a folder for executables there.
pub(super) const SYSTEM: &str = "/usr/lib/afterglow";

/// The library of this process: `ORT_DYLIB_PATH`, then beside the executable, then where images put it, then our cache.
pub(super) fn find() -> Result<PathBuf, LibraryError> {
    let said = std::env::var_os("ORT_DYLIB_PATH")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned));
    let caches: Vec<PathBuf> = cache::folders().collect();
    find_in(said, beside.as_deref(), &caches)
}

fn find_in(
    said: Option<PathBuf>,
    beside: Option<&Path>,
    caches: &[PathBuf],
) -> Result<PathBuf, LibraryError> {
    if let Some(said) = said {
        return if said.is_file() {
            Ok(said)
        } else {
            Err(LibraryError::NotWhereSaid(said))
        };
    }
    let file = format!("libonnxruntime.so.{VERSION}");
    let candidates: Vec<PathBuf> = beside
        .map(|folder| folder.join(&file))
        .into_iter()
        .chain([Path::new(SYSTEM).join(&file)])
        .chain(caches.iter().map(|c| {
            c.join(format!("onnxruntime-{VERSION}/onnxruntime/capi"))
                .join(&file)
        }))
        .collect();
    candidates
        .iter()
        .find(|path| path.is_file())
        .cloned()
        .ok_or(LibraryError::Missing(candidates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_was_said_is_never_replaced_by_another() {
        let error = find_in(Some("/no/such/libonnxruntime.so".into()), None, &[]).unwrap_err();
        assert!(
            error.to_string().contains("/no/such/libonnxruntime.so"),
            "{error}"
        );
    }

    #[test]
    fn the_executables_folder_comes_before_the_cache_and_a_missing_library_names_both() {
        let (beside, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let caches = [cache.path().to_owned()];
        let error = find_in(None, Some(beside.path()), &caches)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&beside.path().display().to_string()), "{error}");
        assert!(error.contains(&cache.path().display().to_string()), "{error}");
        assert!(error.contains("make run"), "{error}");

        let capi = cache
            .path()
            .join(format!("onnxruntime-{VERSION}/onnxruntime/capi"));
        std::fs::create_dir_all(&capi).unwrap();
        let cached = capi.join(format!("libonnxruntime.so.{VERSION}"));
        std::fs::write(&cached, "").unwrap();
        assert_eq!(find_in(None, Some(beside.path()), &caches).unwrap(), cached);

        let near = beside.path().join(format!("libonnxruntime.so.{VERSION}"));
        std::fs::write(&near, "").unwrap();
        assert_eq!(find_in(None, Some(beside.path()), &caches).unwrap(), near);
    }
}
