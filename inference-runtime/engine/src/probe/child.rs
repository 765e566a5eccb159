//! A probe in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::ModelProfile;
use crate::api::{Error, Result};
use crate::repository::Settings;
use crate::session::DeviceChoice;

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
                "--die-with-parent",
            ])
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
                    let _ = stdout.read_to_end(&mut out).await;
                }
            };
            let listen = async {
                if let Some(stderr) = &mut stderr {
                    let _ = stderr.read_to_end(&mut err).await;
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

/// Ends this process when its parent ends: a probe must not outlive the engine that asked for it.
pub(crate) fn end_with_parent() {
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
    {
        tracing::warn!(%error, "this probe would outlive its engine");
    }
}
