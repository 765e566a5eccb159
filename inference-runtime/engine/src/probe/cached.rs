//! Profiles that need not be made again.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::{ModelProfile, Verdict};
use crate::session::{Device, Runtime};

/// Profiles on disk, by everything that could change them: model, device, driver, ONNX Runtime, our
/// provider and this engine.
#[derive(Debug, Clone)]
pub(crate) struct Profiles {
    folder: Option<PathBuf>,
}

impl Profiles {
    /// Profiles in `folder`, else in our cache folder; nothing is kept where there is neither.
    pub(crate) fn open(folder: Option<PathBuf>) -> Self {
        Self {
            folder: folder.or_else(|| crate::cache::folder().map(|cache| cache.join("profiles"))),
        }
    }

    fn path(&self, digest: &str, device: &Device) -> Option<PathBuf> {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        part(digest);
        part(&device.label());
        for (key, value) in device.details() {
            part(key);
            part(value);
        }
        part(&device.runtime().version());
        if !device.is_cpu() {
            part(&Runtime::provider_identity());
        }
        part(env!("CARGO_PKG_VERSION"));
        let name = hash
            .finalize()
            .iter()
            .fold(String::new(), |name, byte| format!("{name}{byte:02x}"));
        Some(self.folder.as_ref()?.join(format!("{name}.json")))
    }

    /// A passing profile of this very model on this very device.
    pub(crate) fn find(&self, digest: &str, device: &Device) -> Option<ModelProfile> {
        let bytes = std::fs::read(self.path(digest, device)?).ok()?;
        let profile: ModelProfile = serde_json::from_slice(&bytes).ok()?;
        (profile.verdict == Verdict::Passed && profile.digest == digest).then_some(profile)
    }

    /// Keeps a passing profile. Failures are not kept: their cause may go away.
    pub(crate) fn keep(&self, profile: &ModelProfile, device: &Device) {
        let Some(path) = self
            .path(&profile.digest, device)
            .filter(|_| profile.verdict == Verdict::Passed)
        else {
            return;
        };
        // Written aside and renamed: a reader never sees half of it.
        let partial = path.with_extension(format!("partial-{}", std::process::id()));
        let written = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&partial, serde_json::to_vec_pretty(profile)?))
            .and_then(|()| std::fs::rename(&partial, &path));
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "a profile cannot be kept; the model will be probed again next time");
        }
    }
}
