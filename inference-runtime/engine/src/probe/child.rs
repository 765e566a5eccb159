//! A probe in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::ModelProfile;
use crate::api::{Error, Result};
use crate::repository::Settings;
use crate::session::DeviceChoice;

/// A profile has some KiB.
const PROFILE: u64 = 4 << 20;
/// What is kept of a probe's last words.
const WORDS: usize = 16 << 10;

/// Starts probes.
#[derive(Debug, Clone)]
pub(crate) struct ProbeChild {
    /// This engine's own program.
    pub(crate) program: PathBuf,
    /// When a probe is killed: loading cannot be interrupted politely.
    pub(crate) limit: Duration,
}

impl ProbeChild {
    /// Probes the model in `version`. A probe that crashes or stalls is an error with the reason.
    pub(crate) async fn run(
        &self,
        version: &Path,
        settings: &Settings,
        device: DeviceChoice,
    ) -> Result<ModelProfile> {
        let cannot =
            |what: &str, e: &dyn std::fmt::Display| Error::unavailable(format!("the probe {what}: {e}"));
        let settings =
            serde_json::to_string(settings).map_err(|e| cannot("cannot be told the settings", &e))?;
        let mut child = Command::new(&self.program)
            .arg("probe")
            .arg(version)
            .args([
                "--device",
                &device.to_string(),
                "--output",
                "json",
                "--seconds",
                "2",
            ])
            .arg(format!("--die-with-parent={}", std::process::id()))
            .args(["--settings", &settings])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| cannot(&format!("`{}` cannot be started", self.program.display()), &e))?;
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let read = async {
                if let Some(stdout) = &mut stdout {
                    // More than a profile is read, so that the child does not wait, and thrown away.
                    let _ = stdout.take(PROFILE).read_to_end(&mut out).await;
                    let _ = tokio::io::copy(stdout, &mut tokio::io::sink()).await;
                }
            };
            let listen = async {
                let mut buffer = vec![0; 4 << 10];
                while let Some(stderr) = &mut stderr
                    && let Ok(n @ 1..) = stderr.read(&mut buffer).await
                {
                    err.extend_from_slice(&buffer[..n]);
                    err.drain(..err.len().saturating_sub(WORDS));
                }
            };
            tokio::join!(read, listen);
            (child.wait().await, out, err)
        };
        let (status, out, err) = tokio::time::timeout(self.limit, work).await.map_err(|_| {
            Error::unavailable(format!(
                "the probe took more than {:?} and was stopped; the model stalls ONNX Runtime",
                self.limit
            ))
        })?;
        let status = status.map_err(|e| cannot("was lost", &e))?;
        if let Ok(profile) = serde_json::from_slice::<ModelProfile>(&out) {
            return Ok(profile);
        }
        let words = String::from_utf8_lossy(&err);
        let last = words
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("it said nothing")
            .trim();
        Err(Error::unavailable(format!(
            "the probe crashed ({status}): {last}"
        )))
    }
}

/// Ends this process when `parent` ends, which started it: nobody else knows of it. The first thing to do, and an error where
/// the parent has ended already: no signal would come any more.
pub(crate) fn end_with_parent(parent: Option<i32>) -> anyhow::Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let Some(parent) = parent else { return Ok(()) };
    set_parent_process_death_signal(Some(Signal::KILL)).context("asking to end with the parent process")?;
    let now = getppid().map(rustix::process::Pid::as_raw_pid);
    anyhow::ensure!(
        now == Some(parent),
        "the process {parent} that started this one has ended already (--die-with-parent)"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> ProbeChild {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap().keep();
        let program = folder.join("engine");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        ProbeChild {
            program,
            limit: Duration::from_mins(1),
        }
    }

    async fn run(script: &str) -> String {
        let child = shell(script);
        let outcome = child
            .run(Path::new("/nowhere"), &Settings::default(), DeviceChoice::Cpu)
            .await;
        std::fs::remove_dir_all(child.program.parent().unwrap()).unwrap();
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn a_process_whose_parent_is_gone_does_not_begin() {
        assert!(end_with_parent(None).is_ok());
        // No process has such a number.
        let error = end_with_parent(Some(i32::MAX)).unwrap_err().to_string();
        assert!(error.contains("has ended already"), "{error}");
        set_back();
    }

    /// The test's own process is to outlive whoever started it.
    fn set_back() {
        rustix::process::set_parent_process_death_signal(None).unwrap();
    }

    #[tokio::test]
    async fn a_probe_that_talks_without_end_is_not_kept_in_memory() {
        let error =
            run("head -c 100000000 /dev/zero; head -c 100000000 /dev/zero >&2; echo last >&2; exit 4").await;
        assert!(
            error.contains("exit status: 4") && error.ends_with("last"),
            "{error}"
        );
        let told = run("echo \"$*\" >&2; exit 4").await;
        assert!(
            told.contains(&format!("--die-with-parent={}", std::process::id())),
            "{told}"
        );
    }
}
