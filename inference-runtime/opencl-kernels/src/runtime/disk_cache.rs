//! Program binaries on disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::DeviceInfo;
use super::hex::hex;

/// Binaries by the digest of everything that decides them. Never a reason to fail: what cannot be read or written is
/// built again.
///
/// A file is the SHA-256 of the binary followed by the binary, so that a torn or damaged file is noticed before a
/// driver sees it.
#[derive(Debug, Clone)]
pub struct DiskCache {
    folder: Option<PathBuf>,
}

const DIGEST_BYTES: usize = 32;

impl DiskCache {
    /// Keeps binaries in this folder, which is made when first needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: Some(folder.into()),
        }
    }

    /// Keeps nothing.
    pub fn none() -> Self {
        Self { folder: None }
    }

    /// Keeps binaries in [`default_folder`](Self::default_folder), or nothing if there is none.
    pub fn in_default_folder() -> Self {
        Self {
            folder: Self::default_folder(),
        }
    }

    /// `$AFTERGLOW_CACHE/programs`, else `~/.cache/afterglow/programs`.
    pub fn default_folder() -> Option<PathBuf> {
        let set = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        set("AFTERGLOW_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("afterglow")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/afterglow")))
            .map(|cache| cache.join("programs"))
    }

    /// The key of a build: source with prelude, options, device, driver and our version.
    pub(super) fn key(text: &str, options: &str, device: &DeviceInfo) -> String {
        let mut hash = Sha256::new();
        let parts = [
            text,
            options,
            &device.platform,
            &device.name,
            &device.driver_version,
            &device.opencl_version,
            env!("CARGO_PKG_VERSION"),
        ];
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hex(&hash.finalize())
    }

    pub(super) fn load(&self, key: &str) -> Option<Vec<u8>> {
        let path = self.folder.as_ref()?.join(key);
        let bytes = fs::read(&path).ok()?;
        let (digest, binary) = bytes.split_at_checked(DIGEST_BYTES)?;
        if Sha256::digest(binary).as_slice() != digest {
            tracing::info!(path = %path.display(), "cached program is damaged, building it again");
            return None;
        }
        Some(binary.to_vec())
    }

    pub(super) fn store(&self, key: &str, binary: &[u8]) {
        let Some(folder) = &self.folder else { return };
        if let Err(error) = write_atomically(folder, key, binary) {
            tracing::debug!(folder = %folder.display(), %error, "program cache is not writable");
        }
    }
}

/// Writes beside the target and renames: readers see the old file or the new one, never half of one.
fn write_atomically(folder: &Path, key: &str, binary: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let part = folder.join(format!("{key}.{}.part", std::process::id()));
    let mut bytes = Sha256::digest(binary).to_vec();
    bytes.extend_from_slice(binary);
    let written = fs::write(&part, &bytes).and_then(|()| fs::rename(&part, folder.join(key)));
    if written.is_err() {
        // Nothing more can be done about a leftover than trying.
        let _ = fs::remove_file(&part);
    }
    written
}
