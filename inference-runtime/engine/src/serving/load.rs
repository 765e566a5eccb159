//! From a folder to a model that answers.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use afterglow_policy::batch::Limits;

use super::Served;
use super::executor::Executor;
use crate::api::{Error, NamedTensor, Result};
use crate::model::Signature;
use crate::probe::{
    ModelProfile, ProbeChild, Profiles, Shapes, Verdict, check_placement, describe_placement,
    signature_ports, synthesize,
};
use crate::queue::{self, Activity, Queue, Turn};
use crate::repository::{self, PlacementRule, Settings, Task, WarmUp};
use crate::session::{Device, Session};
use crate::statistics::Statistics;
use crate::text::Encoder;

/// Makes models answer on one device.
#[derive(Clone)]
pub(crate) struct Loader {
    pub(crate) device: Device,
    /// The device is used by one model at a time.
    pub(crate) turn: Arc<Turn>,
    pub(crate) probe: ProbeChild,
    pub(crate) profiles: Profiles,
    /// Hears of every change of a queue or of the table of models.
    pub(crate) activity: Activity,
}

/// A version that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) version: u64,
    pub(crate) folder: PathBuf,
    pub(crate) settings: Settings,
}

impl Wanted {
    /// What answers call the model.
    pub(crate) fn shown_as(&self) -> &str {
        self.settings.name.as_deref().unwrap_or(&self.name)
    }
}

impl Loader {
    /// Digest → probe (or its kept profile) → session → warm-up → worker. Nothing of it blocks the async runtime.
    pub(crate) async fn load(&self, wanted: Wanted) -> Result<Served> {
        let digest = self.digest(&wanted).await?;
        let profile = self.profile(&wanted, &digest).await?;
        let loader = self.clone();
        blocking(move || loader.open(wanted, digest, &profile)).await
    }

    /// Identifies content and settings of a version.
    pub(crate) async fn digest(&self, wanted: &Wanted) -> Result<String> {
        let wanted = wanted.clone();
        blocking(move || {
            if !wanted.folder.join("model.onnx").is_file() {
                return Err(Error::unavailable(format!(
                    "version {} has no model.onnx",
                    wanted.version
                )));
            }
            repository::digest(&wanted.folder, &wanted.settings)
                .map_err(|e| Error::unavailable(format!("the model's files cannot be read: {e}")))
        })
        .await
    }

    fn device_of(&self, settings: &Settings) -> Device {
        match settings.placement {
            PlacementRule::Cpu => Device::cpu(self.device.runtime()),
            _ => self.device.clone(),
        }
    }

    async fn profile(&self, wanted: &Wanted, digest: &str) -> Result<ModelProfile> {
        let device = self.device_of(&wanted.settings);
        if let Some(profile) = self.profiles.find(digest, &device) {
            return Ok(profile);
        }
        tracing::info!(
            model = wanted.name,
            version = wanted.version,
            device = device.label(),
            "probing"
        );
        let profile = self
            .probe
            .run(&wanted.folder, &wanted.settings, device.choice())
            .await?;
        match profile.verdict {
            Verdict::Passed => {
                self.profiles.keep(&profile, &device);
                Ok(profile)
            }
            Verdict::Failed => Err(Error::unavailable(profile.reason)),
        }
    }

    fn open(&self, wanted: Wanted, digest: String, profile: &ModelProfile) -> Result<Served> {
        let Wanted {
            name,
            version,
            folder,
            settings,
        } = wanted;
        let device = self.device_of(&settings);
        let mut session = Session::open(&device, &folder.join("model.onnx"))?;
        // Strictness needs the file's own graph and was judged by the probe, on the same file and device.
        check_placement(&device, session.placed(), PlacementRule::Prefer, &BTreeSet::new())?;
        let placement = describe_placement(&device, session.placed());
        let signature = Signature {
            inputs: signature_ports(session.inputs()),
            outputs: signature_ports(session.outputs()),
            open_rank: profile.open_rank.clone(),
            max_batch: profile.max_batch_size,
        };
        let encoder = match settings.task {
            Task::Tensor => None,
            Task::Embedding => {
                let embedding = settings.embedding.clone().unwrap_or_default();
                Some(Arc::new(Encoder::load(
                    &folder,
                    &embedding,
                    &signature.inputs,
                    &signature.outputs,
                )?))
            }
        };
        for run in &settings.warm_up {
            let _held = self.turn.take();
            warm_up(
                &mut session,
                run,
                &settings,
                &signature,
                encoder.as_deref(),
                profile.free_extent,
            )?;
        }
        let limits = match NonZeroUsize::new(signature.max_batch) {
            None => Limits::single(),
            Some(max_rows) => Limits {
                max_rows,
                max_delay: settings.batching.max_delay,
                preferred_rows: settings.batching.preferred_sizes.clone(),
            },
        };
        let statistics = Arc::new(Statistics::default());
        let shown_as = settings.name.clone().unwrap_or_else(|| name.clone());
        let queue = Queue::new(
            shown_as.clone(),
            limits,
            settings.batching.max_queue,
            Arc::clone(&statistics),
            self.activity.clone(),
        );
        let executor = Executor {
            session,
            encoder: encoder.clone(),
        };
        let worker = queue::spawn(&queue, executor, Arc::clone(&self.turn))
            .map_err(|e| Error::unavailable(format!("no thread for the model's worker: {e}")))?;
        Ok(Served {
            name,
            shown_as,
            version,
            digest,
            created: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            placement,
            statistics,
            signature,
            batching: settings.batching,
            encoder,
            queue,
            worker: Mutex::new(Some(worker)),
            host_bytes: profile.host_bytes,
            device_bytes: profile.device_bytes.unwrap_or(0),
        })
    }
}

fn warm_up(
    session: &mut Session,
    run: &WarmUp,
    settings: &Settings,
    signature: &Signature,
    encoder: Option<&Encoder>,
    free: usize,
) -> Result<()> {
    let batched = signature.max_batch > 0;
    let failed = |error: &Error| {
        Error::unavailable(format!(
            "the warm-up with batch {} failed: {}",
            run.batch, error.message
        ))
    };
    if run.batch > signature.max_batch.max(1) {
        return Err(Error::unavailable(format!(
            "model.yaml: a warm-up with batch {}, and the model takes at most {}",
            run.batch,
            signature.max_batch.max(1)
        )));
    }
    let inputs: Vec<NamedTensor> = if let Some(encoder) = encoder {
        let length = run
            .shapes
            .values()
            .find_map(|shape| shape.last().copied())
            .unwrap_or(free);
        let token = encoder.tokens("a")?.first().copied().unwrap_or(0);
        let tokens = vec![token; length.clamp(1, encoder.max_tokens())];
        encoder.batch(&vec![tokens.as_slice(); run.batch])
    } else {
        let given = settings.probe.inputs.iter();
        let mut given: BTreeMap<&str, &[usize]> = given
            .filter_map(|(name, input)| Some((name.as_str(), input.shape.as_deref()?)))
            .collect();
        given.extend(
            run.shapes
                .iter()
                .map(|(name, shape)| (name.as_str(), shape.as_slice())),
        );
        let shapes = Shapes {
            batch: batched.then_some(run.batch),
            given,
            free,
        };
        let ports = session.inputs().to_vec();
        synthesize(&ports, &shapes, &settings.probe.inputs, 1).map_err(|e| failed(&e))?
    };
    session.run_once(&inputs).map(drop).map_err(|e| failed(&e))
}

/// Runs blocking work off the async runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Error::internal(format!("work on a model panicked: {e}"))))
}
