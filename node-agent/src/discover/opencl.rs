//! The devices as OpenCL sees them, and what they really do: asked of the engine, in a child process each.
//!
//! A driver that hangs or crashes takes the child with it; the agent reads that as a failed self-test.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use crate::process::{self, Failed, Process};

/// Listing loads every driver, nothing more.
const LISTING: Duration = Duration::from_mins(1);
/// The test compiles its kernels for the card, which an old CPU takes its time for.
const TESTING: Duration = Duration::from_mins(3);

/// A device in the engine's words (`afterglow-engine devices --output json`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Seen {
    /// What selects it: `opencl:0`.
    pub(super) device: String,
    /// `gpu` or `cpu`.
    pub(super) kind: String,
    /// What the driver calls it.
    pub(super) name: String,
    /// The driver.
    pub(super) platform: String,
    /// The driver's version.
    pub(super) driver_version: String,
    /// `OpenCL 3.0 …`.
    pub(super) opencl_version: String,
    /// Compute units.
    pub(super) compute_units: u32,
    /// Bytes of its memory.
    pub(super) global_memory: u64,
    /// PCI address, where the driver tells it.
    pub(super) pci: Option<Address>,
    /// Whether it computes right.
    #[serde(rename = "selfTest")]
    pub(super) self_test: Option<Verdict>,
    /// How fast it is.
    pub(super) measured: Option<Measured>,
}

impl Seen {
    /// Whether the two are one device with one driver. Its number says so only where the driver tells no address.
    pub(super) fn is(&self, other: &Self) -> bool {
        let what = |seen: &Self| {
            let number = seen.device.clone();
            (
                seen.pci,
                seen.pci.is_none().then_some(number),
                seen.name.clone(),
                seen.platform.clone(),
                seen.driver_version.clone(),
            )
        };
        what(self) == what(other)
    }
}

/// A PCI address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Address {
    pub(super) domain: u32,
    pub(super) bus: u32,
    pub(super) device: u32,
    pub(super) function: u32,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

/// Whether a device computes right.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub(super) enum Verdict {
    /// It does.
    Pass,
    /// It does not, and why.
    Fail {
        /// Which check, and how.
        reason: String,
    },
}

/// How fast a device is.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(super) struct Measured {
    pub(super) gflops: f64,
    pub(super) copy_gb_per_s: f64,
    pub(super) upload_gb_per_s: f64,
}

/// What OpenCL showed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Examination {
    /// The devices.
    pub(super) devices: Vec<Seen>,
    /// Why nothing could be listed, if so.
    pub(super) broken: Option<String>,
    /// Whether a process crashed or hung: unlike a wrong result, that may have been bad luck and is tried again.
    pub(super) crashed: bool,
}

/// Lists the devices; their verdicts are open.
pub(super) async fn list(engine: &Path) -> Examination {
    match ask(engine, &["--quick"], LISTING, ()).await {
        Ok(devices) => Examination {
            devices,
            ..Examination::default()
        },
        Err(broken) => Examination {
            broken: Some(broken),
            crashed: true,
            ..Examination::default()
        },
    }
}

/// Tests and measures a device in a process of its own, which has what it `holds` until it has really ended; answers whether
/// the process came to an end of its own.
pub(super) async fn test(engine: &Path, device: &mut Seen, holds: impl Send + 'static) -> bool {
    let tested = ask(engine, &["--only", &device.device], TESTING, holds).await;
    let tested = tested.map(|mut devices| devices.pop().filter(|tested| tested.name == device.name));
    let (verdict, measured, ended) = match tested {
        Ok(Some(tested)) => match tested.self_test {
            Some(verdict) => (verdict, tested.measured, true),
            None => (fail("its test came to no verdict"), None, false),
        },
        Ok(None) => (fail("it was gone when it was to be tested"), None, false),
        Err(reason) => (fail(&reason), None, false),
    };
    device.self_test = Some(verdict);
    device.measured = measured;
    ended
}

const CHILD: &str = "the self-test's process ";

fn fail(reason: &str) -> Verdict {
    Verdict::Fail {
        reason: reason.to_owned(),
    }
}

async fn ask(
    engine: &Path,
    arguments: &[&str],
    limit: Duration,
    holds: impl Send + 'static,
) -> Result<Vec<Seen>, String> {
    let mut command = Command::new(engine);
    command.args(["devices", "--output", "json"]).args(arguments);
    // Mesa's rusticl is installed with every driver switched off.
    if std::env::var_os("RUSTICL_ENABLE").is_none() {
        command.env("RUSTICL_ENABLE", "radeonsi");
    }
    let output = Process::run(command, limit, holds)
        .await
        .map_err(|why| match why {
            Failed::Late => format!(
                "{CHILD}did not finish in {} s and was ended: the driver or the card hangs",
                limit.as_secs()
            ),
            Failed::Start(error) => format!(
                "{CHILD}could not be started: {}: {error}; set AFTERGLOW_ENGINE to the engine's path",
                engine.display()
            ),
        })?;
    // A failed test makes it exit with 1 and still say what it found.
    serde_json::from_slice(&output.stdout).map_err(|error| {
        let said = match process::last_words(&output.stderr) {
            Some(line) => format!(", its last words: {}", line.chars().take(300).collect::<String>()),
            None if output.stdout.is_empty() => String::new(),
            None => format!(", its answer cannot be read: {error}"),
        };
        format!("{CHILD}ended with {}{said}", output.status)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    /// An engine that answers as a script says.
    fn engine(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("engine");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Lists, and tests all.
    async fn examine(engine: &Path) -> Examination {
        let mut examination = list(engine).await;
        for device in &mut examination.devices {
            examination.crashed |= !test(engine, device, ()).await;
        }
        examination
    }

    const CARD: &str = r#"{"device":"opencl:0","kind":"gpu","name":"AMD Radeon RX 580 Series (radeonsi, polaris10)","platform":"rusticl","driver_version":"25.0.7","opencl_version":"OpenCL 3.0","compute_units":36,"global_memory":8589934592,"pci":{"domain":0,"bus":4,"device":0,"function":0},"selfTest":null,"measured":null}"#;

    #[tokio::test]
    async fn a_device_that_crashes_its_test_has_failed_it_and_the_others_are_still_tested() {
        let folder = tempfile::tempdir().unwrap();
        let second = CARD.replace("opencl:0", "opencl:1");
        let passed = second.replace(r#""selfTest":null,"measured":null"#, r#""selfTest":{"verdict":"pass"},"measured":{"gflops":1.5,"copy_gb_per_s":2.0,"upload_gb_per_s":0.4}"#);
        let engine = engine(
            folder.path(),
            &format!(
                "case \"$*\" in *--quick*) echo '[{CARD},{second}]';; *opencl:0*) kill -SEGV $$;; *) echo '[{passed}]';; esac"
            ),
        );
        let examination = examine(&engine).await;
        let [first, second] = &examination.devices[..] else {
            panic!("{examination:?}");
        };
        let Some(Verdict::Fail { reason }) = &first.self_test else {
            panic!("{first:?}");
        };
        assert!(reason.contains("signal: 11"), "{reason}");
        assert_eq!(second.self_test, Some(Verdict::Pass));
        assert_eq!(second.measured.map(|m| m.gflops), Some(1.5));
        assert!(examination.crashed, "worth another try");
    }

    #[tokio::test]
    async fn a_wrong_result_is_a_verdict_and_not_bad_luck() {
        let folder = tempfile::tempdir().unwrap();
        let failed = CARD.replace(
            r#""selfTest":null"#,
            r#""selfTest":{"verdict":"fail","reason":"memory: wrong"}"#,
        );
        let engine = engine(
            folder.path(),
            &format!("case \"$*\" in *--quick*) echo '[{CARD}]';; *) echo '[{failed}]'; exit 1;; esac"),
        );
        let examination = examine(&engine).await;
        assert_eq!(examination.devices[0].self_test, Some(fail("memory: wrong")));
        assert!(!examination.crashed);
        assert_eq!(examination.devices[0].pci.unwrap().to_string(), "0000:04:00.0");
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_or_talks_nonsense_is_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let missing = examine(&folder.path().join("nowhere")).await;
        assert!(missing.broken.unwrap().contains("AFTERGLOW_ENGINE"));
        let silent = examine(&engine(folder.path(), "echo 'libOpenCL: bad' >&2; exit 3")).await;
        let reason = silent.broken.unwrap();
        assert!(
            reason.contains("exit status: 3") && reason.contains("libOpenCL: bad"),
            "{reason}"
        );
    }

    #[tokio::test]
    async fn a_test_that_hangs_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(folder.path(), "exec sleep 600");
        let reason = ask(&engine, &[], Duration::from_millis(300), ())
            .await
            .unwrap_err();
        assert!(reason.contains("did not finish"), "{reason}");
    }
}
