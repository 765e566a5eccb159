//! The engine's handle: everything a wire protocol may ask of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::{
    EmbedInput, EmbeddingModel, Embeddings, Error, IndexEntry, InferRequest, InferResponse, Kind,
    ModelConfig, ModelLoad, ModelMetadata, ModelStatistics, Placement, Result,
};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::probe::{ProbeChild, Profiles};
use crate::queue::{Activity, Turn};
use crate::repository::Folder;
use crate::serving::{Loader, Models};
use crate::session::{Device, DeviceChoice, DeviceError, Runtime};

/// What an engine is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of models, or a folder with a folder `models` in it.
    pub repository: PathBuf,
    /// The device that models run on.
    pub device: DeviceChoice,
    /// What one request may ask for.
    pub limits: Limits,
    /// The program that probes: this engine's own.
    pub program: PathBuf,
    /// When a probe is stopped.
    pub probe_limit: Duration,
    /// Where profiles are kept; `None` is our cache folder.
    pub profiles: Option<PathBuf>,
}

/// Why an engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The repository cannot be read.
    #[error(transparent)]
    Repository(#[from] std::io::Error),
    /// No device as asked for.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// A cheap handle to the engine; all clones are the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    limits: Limits,
    metrics: Metrics,
    models: Arc<Models>,
    scanned: AtomicBool,
    draining: AtomicBool,
}

impl Engine {
    /// Finds the repository and the device; loads nothing yet. Blocks while ONNX Runtime is loaded.
    pub fn new(options: Options) -> Result<Self, StartError> {
        let folder = Folder::open(&options.repository)?;
        let runtime = Runtime::load().map_err(DeviceError::from)?;
        let device = Device::choose(&runtime, options.device)?;
        let loader = Loader {
            device,
            turn: Arc::new(Turn::default()),
            probe: ProbeChild {
                program: options.program,
                limit: options.probe_limit,
            },
            profiles: Profiles::open(options.profiles),
            activity: Activity::default(),
        };
        let models = Arc::new(Models::new(folder, loader));
        Ok(Self(Arc::new(Inner {
            limits: options.limits,
            metrics: Metrics::new(Arc::clone(&models)),
            models,
            scanned: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        })))
    }

    /// Loads every model of the repository; after this the engine is ready. Answers which models failed and why.
    pub async fn scan(&self) -> Vec<(String, Error)> {
        let failed = match self.0.models.load_all().await {
            Ok(failed) => failed,
            Err(error) => vec![(
                String::new(),
                Error::internal(format!("the repository cannot be read: {error}")),
            )],
        };
        self.0.scanned.store(true, Ordering::Release);
        failed
    }

    /// From now on not ready; requests are still answered until the servers stop.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
        self.0.models.loader().activity.stir();
    }

    /// Finishes what is queued and frees every model.
    pub async fn finish(&self) {
        self.0.models.finish().await;
    }

    /// The device, `cpu` or `opencl:0 NAME`.
    pub fn device(&self) -> String {
        self.0.models.loader().device.label()
    }

    /// ONNX Runtime's version.
    pub fn runtime_version(&self) -> String {
        self.0.models.loader().device.runtime().version()
    }

    /// Where the repository is.
    pub fn repository(&self) -> PathBuf {
        self.0.models.root().to_owned()
    }

    /// Whether the first scan of the repository is over and the engine is not draining.
    pub fn ready(&self) -> bool {
        self.0.scanned.load(Ordering::Acquire) && !self.draining()
    }

    /// Whether the engine finishes what it has and wants nothing new.
    pub fn draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// What one request may ask for.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Whether a model (or one version of it) answers; unknown ones are an error.
    pub fn model_ready(&self, model: &str, version: Option<&str>) -> Result<bool> {
        match self.0.models.resolve(model, version) {
            Ok(_) => Ok(true),
            Err(error) if error.kind == Kind::Unavailable => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Inputs, outputs and versions.
    pub fn metadata(&self, model: &str, version: Option<&str>) -> Result<ModelMetadata> {
        let served = self.0.models.resolve(model, version)?;
        Ok(served.metadata(self.0.models.ready_versions(model)))
    }

    /// What a client may know of the configuration.
    pub fn config(&self, model: &str, version: Option<&str>) -> Result<ModelConfig> {
        Ok(self.0.models.resolve(model, version)?.config())
    }

    /// What of the model runs where.
    pub fn placement(&self, model: &str, version: Option<&str>) -> Result<Placement> {
        Ok(self.0.models.resolve(model, version)?.placement.clone())
    }

    /// Statistics of one version, of one model's ready versions, or of all.
    pub fn statistics(&self, model: Option<&str>, version: Option<&str>) -> Result<Vec<ModelStatistics>> {
        if let Some(model) = model {
            let served = self.0.models.resolve(model, version)?;
            if version.is_some() {
                return Ok(vec![served.statistics()]);
            }
        }
        Ok(self
            .0
            .models
            .served(model)
            .iter()
            .map(|served| served.statistics())
            .collect())
    }

    /// The repository's models and versions with their states.
    pub fn index(&self, ready_only: bool) -> Vec<IndexEntry> {
        self.0.models.index(ready_only)
    }

    /// How busy every model is.
    pub fn load_report(&self) -> Vec<ModelLoad> {
        self.0.models.load_report()
    }

    /// Hears of every change of what [`Self::load_report`] says.
    pub fn activity(&self) -> watch::Receiver<()> {
        self.0.models.loader().activity.subscribe()
    }

    /// Loads a model of the repository as it lies there now; `config` (Triton's model configuration, the honoured part
    /// of it) comes on top of its settings.
    pub async fn load(
        &self,
        model: &str,
        config: Option<serde_json::Value>,
        files: Vec<(String, Bytes)>,
    ) -> Result<()> {
        if let Some((name, _)) = files.first() {
            return Err(Error::new(
                Kind::Unimplemented,
                format!(
                    "`{name}`: this engine loads models from its repository folder, not out of a request"
                ),
            ));
        }
        self.0.models.load(model, config.as_ref()).await
    }

    /// Lets a model finish what it has and frees it.
    pub async fn unload(&self, model: &str) -> Result<()> {
        self.0.models.unload(model).await
    }

    /// Answers one inference request.
    pub async fn infer(&self, mut request: InferRequest) -> Result<InferResponse> {
        let served = self
            .0
            .models
            .resolve(&request.model, request.version.as_deref())?;
        request.deadline = Some(self.bounded(request.deadline));
        served.infer(request).await
    }

    /// The models that [`Self::embed`] serves.
    pub fn embedding_models(&self) -> Vec<EmbeddingModel> {
        let mut models: Vec<EmbeddingModel> = self
            .0
            .models
            .served(None)
            .into_iter()
            .filter_map(|served| {
                Some(EmbeddingModel {
                    dimension: served.encoder()?.dimension(),
                    name: served.name.clone(),
                    shown_as: served.shown_as.clone(),
                    created: served.created,
                })
            })
            .collect();
        // One line a model: its highest version comes last.
        models.reverse();
        models.dedup_by(|a, b| a.name == b.name);
        models.reverse();
        models
    }

    /// Embeds texts or tokens.
    pub async fn embed(
        &self,
        model: &str,
        inputs: Vec<EmbedInput>,
        dimensions: Option<usize>,
        deadline: Option<Instant>,
        cancel: CancellationToken,
    ) -> Result<Embeddings> {
        let most = self.0.limits.embedding_inputs;
        if inputs.len() > most {
            return Err(Error::invalid(format!(
                "{} inputs; one request may hold {most}",
                inputs.len()
            )));
        }
        let served = self.0.models.resolve(model, None)?;
        served
            .embed(inputs, dimensions, Some(self.bounded(deadline)), cancel)
            .await
    }

    /// What Prometheus sees.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// No request waits for ever.
    fn bounded(&self, deadline: Option<Instant>) -> Instant {
        let longest = Instant::now() + self.0.limits.longest_deadline;
        deadline.map_or(longest, |deadline| deadline.min(longest))
    }
}
