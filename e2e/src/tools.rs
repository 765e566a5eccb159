//! Where things lie: the checkout, what `setup.sh e2e` put into the cache, and what a run leaves in `target/e2e`.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Folders of a run.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The checkout.
    pub root: PathBuf,
    /// Programs from `setup.sh e2e`: kubectl, helm, kubelet, containerd and so on.
    pub bin: PathBuf,
    /// What runs leave behind.
    pub target: PathBuf,
}

impl Tools {
    /// Finds them; says what to do if the setup has not been run.
    pub fn find() -> Result<Self> {
        // Set by cargo while it builds: the harness runs from the checkout it was built in.
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .map_or_else(|| PathBuf::from("."), Path::to_path_buf);
        let cache = env::var_os("AFTERGLOW_CACHE").map_or_else(
            || Path::new(&env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/afterglow"),
            PathBuf::from,
        );
        let tools = Self {
            target: root.join("target/e2e"),
            bin: cache.join("bin"),
            root,
        };
        for program in ["kubectl", "helm"] {
            if !tools.bin.join(program).exists() {
                bail!(
                    "{program} is not in {}: run xtask/setup/setup.sh e2e first",
                    tools.bin.display()
                );
            }
        }
        Ok(tools)
    }

    /// A program of the setup, as text for a command line.
    pub fn program(&self, name: &str) -> String {
        self.bin.join(name).to_string_lossy().into_owned()
    }

    /// `PATH` for programs that call others.
    pub fn path(&self) -> String {
        format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.bin.display())
    }

    /// Image archives that `images/build.sh` wrote.
    pub fn images(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = std::fs::read_dir(self.root.join("target/images"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "tar"))
            .collect();
        found.sort();
        found
    }
}
