//! `afterglow-engine probe`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use afterglow_telemetry::{Format, Lines};
use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::Output;
use crate::probe::{self, ModelProfile, Profiles, ReasonCode, Trial, Verdict};
use crate::repository::{self, PlacementRule, Settings};
use crate::session::{Device, DeviceChoice, Runtime};

#[derive(Debug, Args)]
pub(super) struct Probe {
    /// A model's folder (its highest version), a version's folder, or an ONNX file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// auto (first GPU, else first OpenCL device), opencl[:N], or cpu
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// How the profile is written
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Seconds for measuring latency
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Answer with the profile of an earlier probe of the same model on the same device, and keep this one if it passes,
    /// so that an engine with the same cache need not probe
    #[arg(long)]
    cached: bool,
    /// Settings as JSON, instead of those in model.yaml
    #[arg(long, hide = true)]
    settings: Option<String>,
    /// End when the parent process, which is this one, ends
    #[arg(long, value_name = "PID", hide = true)]
    die_with_parent: Option<i32>,
}

impl Probe {
    pub(super) fn run(self) -> Result<ExitCode> {
        probe::end_with_parent(self.die_with_parent)?;
        afterglow_telemetry::log(Lines::of(Format::Text, "warn,onnxruntime=error"));
        let budget = Duration::try_from_secs_f64(self.seconds).context("--seconds")?;
        let Found {
            model,
            scope,
            settings: folder,
        } = find(&self.model)?;
        let settings = match (&self.settings, folder) {
            (Some(json), _) => serde_json::from_str(json).context("--settings")?,
            (None, Some(folder)) => match Settings::read(&folder) {
                Ok(settings) => settings,
                Err(reason) => return self.answer(&self.refused(reason)),
            },
            (None, None) => Settings::default(),
        };
        let runtime = Runtime::load()?;
        let device = Device::choose(&runtime, self.device)?;
        // As the engine that loads the model will look for it.
        let subject = match settings.placement {
            PlacementRule::Cpu => Device::cpu(&runtime),
            _ => device.clone(),
        };
        let profiles = self.cached.then(|| Profiles::open(None));
        let kept = profiles.as_ref().and_then(|profiles| {
            let digest = repository::digest(&scope, &settings).ok()?;
            profiles.find(&digest, &subject)
        });
        let trial = Trial {
            name: self.model.display().to_string(),
            model,
            scope,
            settings,
            device,
            budget,
        };
        let profile = kept.unwrap_or_else(|| {
            let profile = trial.run();
            if let Some(profiles) = &profiles {
                profiles.keep(&profile, &subject);
            }
            profile
        });
        self.answer(&profile)
    }

    /// Settings that cannot be read are a model that may not be served.
    fn refused(&self, reason: String) -> ModelProfile {
        ModelProfile {
            model: self.model.display().to_string(),
            engine: env!("CARGO_PKG_VERSION").to_owned(),
            reason,
            reason_code: Some(ReasonCode::Invalid),
            ..ModelProfile::default()
        }
    }

    fn answer(&self, profile: &ModelProfile) -> Result<ExitCode> {
        let text = match self.output {
            Output::Json => serde_json::to_string_pretty(profile)? + "\n",
            Output::Table => probe::table(profile),
        };
        anstream::stdout().write_all(text.as_bytes())?;
        Ok(match profile.verdict {
            Verdict::Passed => ExitCode::SUCCESS,
            Verdict::Failed => ExitCode::FAILURE,
        })
    }
}

struct Found {
    model: PathBuf,
    /// What the digest is over.
    scope: PathBuf,
    /// Where model.yaml would be.
    settings: Option<PathBuf>,
}

fn find(path: &Path) -> Result<Found> {
    if path.is_file() {
        return Ok(Found {
            model: path.to_owned(),
            scope: path.to_owned(),
            settings: None,
        });
    }
    let version = |folder: PathBuf, settings: Option<PathBuf>| Found {
        model: folder.join("model.onnx"),
        scope: folder,
        settings,
    };
    if path.join("model.onnx").exists() {
        let absolute = path
            .canonicalize()
            .with_context(|| format!("`{}`", path.display()))?;
        return Ok(version(path.to_owned(), absolute.parent().map(Path::to_owned)));
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("`{}` cannot be read", path.display()))?;
    let highest = entries
        .filter_map(|entry| repository::version(&entry.ok()?.file_name().to_string_lossy()))
        .max();
    match highest {
        Some(highest) => Ok(version(path.join(highest.to_string()), Some(path.to_owned()))),
        None => bail!(
            "`{}` is no model: neither an ONNX file nor a folder with model.onnx or with numbered versions in it",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_may_be_named_by_its_folder_its_version_or_its_file() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for version in ["m/1", "m/12", "m/x"] {
            std::fs::create_dir_all(at(version)).unwrap();
            std::fs::write(at(version).join("model.onnx"), "").unwrap();
        }
        assert_eq!(find(&at("m")).unwrap().model, at("m/12/model.onnx"));
        assert_eq!(find(&at("m")).unwrap().settings, Some(at("m")));
        let version = find(&at("m/1")).unwrap();
        assert_eq!(version.model, at("m/1/model.onnx"));
        assert!(version.settings.unwrap().ends_with("m"));
        let file = find(&at("m/1/model.onnx")).unwrap();
        assert_eq!((file.scope, file.settings), (at("m/1/model.onnx"), None));
        assert!(find(root.path()).is_err());
        assert!(find(&at("nobody")).is_err());
    }
}
