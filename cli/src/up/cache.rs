//! Where fetched models, packages and compiled kernels of a folder stay from one start to the next.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::package::hex;

/// Processes that may serve one folder at a time.
const SLOTS: u32 = 16;

/// A cache folder that is ours as long as this lives.
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) path: PathBuf,
    _lock: File,
}

impl Cache {
    /// A cache for `dir`: the one of last time, or another if a process that serves the same folder has that.
    pub(super) fn claim(dir: &Path) -> Result<Self> {
        let whole = fs::canonicalize(dir).with_context(|| format!("finding {}", dir.display()))?;
        let hash = Sha256::digest(whole.as_os_str().as_encoded_bytes());
        let hex = hex(&hash[..6]);
        let base = root().join("up");
        for slot in 0..SLOTS {
            let path = base.join(format!("{hex}-{slot}"));
            fs::create_dir_all(&path).with_context(|| format!("making the cache {}", path.display()))?;
            let file = path.join("lock");
            let lock = File::create(&file).with_context(|| format!("making {}", file.display()))?;
            if lock.try_lock().is_ok() {
                share(&path)?;
                return Ok(Self { path, _lock: lock });
            }
        }
        anyhow::bail!("{SLOTS} processes serve {} already", whole.display())
    }
}

/// Engines find what they share with every other engine of this user where it always is: ONNX Runtime, compiled kernels,
/// probes' results.
fn share(path: &Path) -> Result<()> {
    let link = path.join("engine");
    match std::os::unix::fs::symlink(root(), &link) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("making {}", link.display()))
        }
        _ => Ok(()),
    }
}

/// `AFTERGLOW_CACHE`, else the user's cache folder.
fn root() -> PathBuf {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("AFTERGLOW_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("afterglow")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/afterglow")))
        .unwrap_or_else(|| std::env::temp_dir().join("afterglow"))
}
