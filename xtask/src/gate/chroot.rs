//! A root file system with the driver in it, made once and kept.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};

use crate::report as say;

/// Packages beyond a minimal Debian 13.
const PACKAGES: &str = "mesa-opencl-icd,mesa-drm-shim,ocl-icd-libopencl1";

/// Its presence shows that the root file system is complete: the last thing that a run needs.
const SHIM: &str = "usr/lib/x86_64-linux-gnu/libamdgpu_noop_drm_shim.so";

/// What makes Mesa take the no-op kernel driver for an RX 580, compile everything anew and print what came out.
pub(super) const ENVIRONMENT: [(&str, &str); 6] = [
    (
        "LD_PRELOAD",
        "/usr/lib/x86_64-linux-gnu/libamdgpu_noop_drm_shim.so",
    ),
    ("AMDGPU_GPU_ID", "polaris10"),
    ("RUSTICL_ENABLE", "radeonsi"),
    ("OCL_ICD_VENDORS", "/etc/OpenCL/vendors/rusticl.icd"),
    ("MESA_SHADER_CACHE_DISABLE", "true"),
    ("AMD_DEBUG", "cs,asm"),
];

/// A Debian 13 in a folder.
pub(super) struct Chroot(PathBuf);

/// Finds the root file system, or makes it.
pub(super) fn prepare() -> Result<Chroot> {
    let folder = cache()?.join("trixie");
    ensure!(
        is_root()?,
        "the gate enters a root file system with chroot, which needs root: run it as root (in a container, say)"
    );
    if !folder.join(SHIM).exists() {
        make(&folder)?;
    }
    Ok(Chroot(folder))
}

/// `$AFTERGLOW_CACHE`, else `~/.cache/afterglow`.
fn cache() -> Result<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("AFTERGLOW_CACHE")
        .or_else(|| set("HOME").map(|home| home.join(".cache/afterglow")))
        .context("neither AFTERGLOW_CACHE nor HOME is set")
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("run id -u")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

fn make(folder: &Path) -> Result<()> {
    say(&format!(
        "making a Debian 13 with Mesa's OpenCL driver in {}: downloads some 150 MB, takes 600 MB",
        folder.display()
    ));
    let part = folder.with_extension("part");
    let made = Command::new("mmdebstrap")
        .args(["--mode=root", "--variant=apt"])
        .arg(format!("--include={PACKAGES}"))
        .arg("trixie")
        .arg(&part)
        .status();
    match made {
        Ok(status) => ensure!(status.success(), "mmdebstrap ended with {status}"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("mmdebstrap is missing: apt-get install mmdebstrap")
        }
        Err(error) => return Err(error).context("run mmdebstrap"),
    }
    // Renamed when complete, so that an interrupted run is not taken for a finished one.
    std::fs::rename(&part, folder).with_context(|| format!("move {} into place", part.display()))
}

impl Chroot {
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.0).arg(program);
        command
    }

    /// Runs a program of this machine inside, behind the driver.
    pub(super) fn run(&self, binary: &Path) -> Result<Output> {
        let inside = Path::new("/opt/afterglow/compile_gate");
        let copy = self.0.join("opt/afterglow/compile_gate");
        if let Some(folder) = copy.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        std::fs::copy(binary, &copy).with_context(|| format!("copy {}", binary.display()))?;
        let variables = ENVIRONMENT.map(|(name, value)| format!("{name}={value}"));
        // By `env` inside, not by our own environment: `chroot` itself must not load the library.
        self.command("/usr/bin/env")
            .args(variables)
            .arg(inside)
            .output()
            .context("run compile_gate in the root file system")
    }

    /// The version of Mesa inside.
    pub(super) fn mesa(&self) -> Result<String> {
        let output = self
            .command("/usr/bin/dpkg-query")
            .args(["--showformat=${Version}", "--show", "mesa-opencl-icd"])
            .output()
            .context("ask for Mesa's version")?;
        ensure!(
            output.status.success(),
            "mesa-opencl-icd is not installed in {}",
            self.0.display()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
