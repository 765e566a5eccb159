//! The engine's handle: everything a wire protocol may ask of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::api::{
    EmbedInput, EmbeddingModel, Embeddings, Error, IndexEntry, InferRequest, InferResponse, ModelConfig,
    ModelMetadata, ModelStatistics, Placement, Result,
};
use crate::limits::Limits;
use crate::metrics::Metrics;

/// A cheap handle to the engine; all clones are the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    limits: Limits,
    metrics: Metrics,
    scanned: AtomicBool,
    draining: AtomicBool,
}

impl Engine {
    /// Whether the first scan of the repository is over and the engine is not draining.
    pub fn ready(&self) -> bool {
        self.0.scanned.load(Ordering::Acquire) && !self.draining()
    }

    /// Whether the engine finishes what it has and takes nothing new.
    pub fn draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// What one request may ask for.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Whether a model (or one version of it) answers.
    pub fn model_ready(&self, model: &str, version: Option<&str>) -> Result<bool> {
        Err(unknown(model, version))
    }

    /// Inputs, outputs and versions.
    pub fn metadata(&self, model: &str, version: Option<&str>) -> Result<ModelMetadata> {
        Err(unknown(model, version))
    }

    /// What a client may know of the configuration.
    pub fn config(&self, model: &str, version: Option<&str>) -> Result<ModelConfig> {
        Err(unknown(model, version))
    }

    /// What of the model runs where.
    pub fn placement(&self, model: &str, version: Option<&str>) -> Result<Placement> {
        Err(unknown(model, version))
    }

    /// Statistics of one version, of one model, or of all.
    pub fn statistics(&self, model: Option<&str>, version: Option<&str>) -> Result<Vec<ModelStatistics>> {
        match model {
            Some(model) => Err(unknown(model, version)),
            None => Ok(Vec::new()),
        }
    }

    /// The repository's models and versions with their states.
    pub fn index(&self, _ready_only: bool) -> Vec<IndexEntry> {
        Vec::new()
    }

    /// Loads (or loads anew) a model of the repository.
    pub async fn load(
        &self,
        model: &str,
        _config: Option<serde_json::Value>,
        _files: Vec<(String, Bytes)>,
    ) -> Result<()> {
        Err(unknown(model, None))
    }

    /// Lets a model finish what it has and frees it.
    pub async fn unload(&self, model: &str) -> Result<()> {
        Err(unknown(model, None))
    }

    /// Answers one inference request.
    pub async fn infer(&self, request: InferRequest) -> Result<InferResponse> {
        Err(unknown(&request.model, request.version.as_deref()))
    }

    /// The models that [`Self::embed`] serves.
    pub fn embedding_models(&self) -> Vec<EmbeddingModel> {
        Vec::new()
    }

    /// Embeds texts or tokens.
    pub async fn embed(
        &self,
        model: &str,
        _inputs: Vec<EmbedInput>,
        _dimensions: Option<usize>,
        _deadline: Option<Instant>,
        _cancel: CancellationToken,
    ) -> Result<Embeddings> {
        Err(unknown(model, None))
    }

    /// What Prometheus sees.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }
}

fn unknown(model: &str, version: Option<&str>) -> Error {
    match version {
        None => Error::not_found(format!("no model `{model}` in the repository")),
        Some(version) => Error::not_found(format!(
            "no version `{version}` of model `{model}` in the repository"
        )),
    }
}
