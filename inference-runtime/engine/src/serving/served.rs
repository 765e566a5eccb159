//! A model version that answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug_span};

use super::executor::{Executor, Input, Key, Output};
use crate::api::{
    DynamicBatching, EmbedInput, Embeddings, Error, InferRequest, InferResponse, ModelConfig, ModelLoad,
    ModelMetadata, ModelStatistics, NamedTensor, Placement, RequestedOutput, Result, TensorSpec,
};
use crate::model::{Signature, classify};
use crate::queue::{Occupancy, Queue, Request};
use crate::repository::Batching;
use crate::statistics::{Statistics, Timing};
use crate::text::Encoder;

/// Triton's name for what this is.
const PLATFORM: &str = "onnxruntime_onnx";

/// A model version that answers. Its session lives on its worker's thread.
pub(crate) struct Served {
    /// What requests, the repository and metrics call it.
    pub(crate) name: String,
    /// What answers call it.
    pub(crate) shown_as: String,
    pub(crate) version: u64,
    /// Identifies content and settings: the same digest need not be loaded again.
    pub(crate) digest: String,
    /// Seconds since the epoch.
    pub(crate) created: u64,
    pub(crate) placement: Placement,
    pub(crate) statistics: Arc<Statistics>,
    pub(super) signature: Signature,
    pub(super) batching: Batching,
    pub(super) encoder: Option<Arc<Encoder>>,
    pub(super) queue: Queue<Executor>,
    pub(super) worker: Mutex<Option<JoinHandle<()>>>,
    pub(super) host_bytes: u64,
    pub(super) device_bytes: u64,
}

impl Served {
    /// Answers a request. Counts it, whatever comes of it.
    pub(crate) async fn infer(&self, request: InferRequest) -> Result<InferResponse> {
        let started = Instant::now();
        let mut guard = Counted::new(self, started);
        let outcome = self.infer_uncounted(request).await;
        match &outcome {
            Ok((_, rows, timing)) => guard.success(*rows, *timing),
            Err(error) => guard.failure(error),
        }
        outcome.map(|(response, ..)| response)
    }

    async fn infer_uncounted(&self, request: InferRequest) -> Result<(InferResponse, usize, Timing)> {
        let fitting = debug_span!("admit", model = self.name).in_scope(|| {
            self.signature.check_outputs(&request.outputs)?;
            self.signature.fit(request.inputs)
        })?;
        let answer = self
            .queue
            .submit(Request {
                input: Input::Tensors(fitting.inputs),
                rows: fitting.rows,
                key: Key::Shapes(fitting.axes),
                priority: request.priority,
                deadline: request.deadline,
                cancel: request.cancel,
            })
            .await?;
        let Output::Tensors(outputs) = answer.output else {
            return Err(Error::internal("vectors for a request of tensors"));
        };
        let response = InferResponse {
            model: self.shown_as.clone(),
            version: self.version.to_string(),
            id: request.id,
            outputs: self.select(outputs, &request.outputs)?,
        };
        Ok((response, fitting.rows, answer.timing))
    }

    /// The outputs that were asked for, in that order.
    fn select(&self, mut outputs: Vec<NamedTensor>, wanted: &[RequestedOutput]) -> Result<Vec<NamedTensor>> {
        if wanted.is_empty() {
            return Ok(outputs);
        }
        wanted
            .iter()
            .map(|wanted| {
                let at = outputs
                    .iter()
                    .position(|output| output.name == wanted.name)
                    .ok_or_else(|| Error::internal(format!("the model gave no output `{}`", wanted.name)))?;
                let NamedTensor { name, tensor } = outputs.swap_remove(at);
                let tensor = match wanted.classification {
                    0 => tensor,
                    n => classify(&name, &tensor, n, self.signature.max_batch > 0)?,
                };
                Ok(NamedTensor { name, tensor })
            })
            .collect()
    }

    /// Embeds; long lists go through the queue in batches.
    pub(crate) async fn embed(
        &self,
        inputs: Vec<EmbedInput>,
        dimensions: Option<usize>,
        deadline: Option<Instant>,
        cancel: CancellationToken,
    ) -> Result<Embeddings> {
        let started = Instant::now();
        let mut guard = Counted::new(self, started);
        let rows = inputs.len();
        let outcome = self.embed_uncounted(inputs, dimensions, deadline, cancel).await;
        match &outcome {
            Ok((_, timing)) => guard.success(rows, *timing),
            Err(error) => guard.failure(error),
        }
        outcome.map(|(embeddings, _)| embeddings)
    }

    async fn embed_uncounted(
        &self,
        inputs: Vec<EmbedInput>,
        dimensions: Option<usize>,
        deadline: Option<Instant>,
        cancel: CancellationToken,
    ) -> Result<(Embeddings, Timing)> {
        let encoder = self.encoder.clone().ok_or_else(|| {
            Error::invalid(format!(
                "model `{}` does not embed text (task: embedding)",
                self.shown_as
            ))
        })?;
        if inputs.is_empty() {
            return Err(Error::invalid("nothing to embed: the input is empty"));
        }
        if let (Some(wanted), has) = (dimensions, encoder.dimension())
            && has != Some(wanted)
        {
            return Err(Error::invalid(format!(
                "model `{}` makes vectors of {} numbers; `dimensions` cannot be {wanted}",
                self.shown_as,
                has.map_or("its own number of".to_owned(), |n| n.to_string())
            )));
        }
        let count = inputs.len();
        let tokenised = {
            let encoder = Arc::clone(&encoder);
            tokio::task::spawn_blocking(move || {
                inputs
                    .into_iter()
                    .map(|input| match input {
                        EmbedInput::Text(text) => encoder.tokens(&text),
                        EmbedInput::Tokens(tokens) => encoder.check_tokens(tokens),
                    })
                    .collect::<Result<Vec<_>>>()
            })
            .instrument(debug_span!("tokenize", texts = count as i64))
            .await
            .map_err(|e| Error::internal(format!("the tokenizer panicked: {e}")))??
        };
        let prompt_tokens = tokenised.iter().map(Vec::len).sum();
        let mut timing = Timing::default();
        let mut vectors: Vec<Vec<f32>> = vec![Vec::new(); count];
        // Texts of like length share a batch: every one is padded to the longest.
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|&i| tokenised[i].len());
        let mut tokenised: Vec<Option<Vec<u32>>> = tokenised.into_iter().map(Some).collect();
        for part in order.chunks(self.signature.max_batch.max(1)) {
            let tokens: Vec<Vec<u32>> = part.iter().filter_map(|&i| tokenised[i].take()).collect();
            let answer = self
                .queue
                .submit(Request {
                    input: Input::Tokens(tokens),
                    rows: part.len(),
                    key: Key::Tokens,
                    priority: 0,
                    deadline,
                    cancel: cancel.clone(),
                })
                .await?;
            timing.queue += answer.timing.queue;
            timing.input += answer.timing.input;
            timing.infer += answer.timing.infer;
            timing.output += answer.timing.output;
            let Output::Vectors(part_vectors) = answer.output else {
                return Err(Error::internal("tensors for a request of texts"));
            };
            for (&i, vector) in part.iter().zip(part_vectors) {
                vectors[i] = vector;
            }
        }
        let embeddings = Embeddings {
            model: self.shown_as.clone(),
            version: self.version.to_string(),
            vectors,
            prompt_tokens,
        };
        Ok((embeddings, timing))
    }

    /// How text becomes vectors here; `None` where it does not.
    pub(crate) fn encoder(&self) -> Option<&Encoder> {
        self.encoder.as_deref()
    }

    pub(crate) fn metadata(&self, versions: Vec<String>) -> ModelMetadata {
        ModelMetadata {
            name: self.shown_as.clone(),
            versions,
            platform: PLATFORM,
            inputs: self.signature.inputs.clone(),
            outputs: self.signature.outputs.clone(),
        }
    }

    pub(crate) fn config(&self) -> ModelConfig {
        let batched = self.signature.max_batch > 0;
        let dims = |specs: &[TensorSpec]| {
            let mut specs = specs.to_vec();
            if batched {
                for spec in &mut specs {
                    spec.shape.remove(0);
                }
            }
            specs
        };
        ModelConfig {
            name: self.shown_as.clone(),
            platform: PLATFORM,
            max_batch_size: self.signature.max_batch,
            inputs: dims(&self.signature.inputs),
            outputs: dims(&self.signature.outputs),
            dynamic_batching: batched.then(|| DynamicBatching {
                preferred_batch_size: self.preferred(),
                max_queue_delay_microseconds: self.batching.max_delay.as_micros() as u64,
            }),
            placement: self.placement.clone(),
        }
    }

    fn preferred(&self) -> Vec<usize> {
        let mut sizes: Vec<usize> = self
            .batching
            .preferred_sizes
            .iter()
            .copied()
            .filter(|&size| size <= self.signature.max_batch)
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    pub(crate) fn statistics(&self) -> ModelStatistics {
        let s = self.statistics.snapshot();
        ModelStatistics {
            name: self.shown_as.clone(),
            version: self.version.to_string(),
            last_inference: s.last_inference,
            inference_count: s.inference_count,
            execution_count: s.execution_count,
            inference: s.inference,
            batches: s.batches.into_values().collect(),
            device_bytes: self.device_bytes,
            host_bytes: self.host_bytes,
        }
    }

    /// Host memory the model took when it was probed.
    pub(crate) fn host_bytes(&self) -> u64 {
        self.host_bytes
    }

    /// How busy it is.
    pub(crate) fn load(&self) -> ModelLoad {
        let Occupancy {
            waiting,
            running,
            waiting_rows,
            run_time,
            runs,
        } = self.queue.occupancy();
        ModelLoad {
            name: self.name.clone(),
            ready: true,
            waiting,
            running,
            waiting_rows,
            max_batch_size: self.signature.max_batch.max(1),
            run_time: run_time.unwrap_or_default(),
            runs,
        }
    }

    pub(crate) fn occupancy(&self) -> Occupancy {
        self.queue.occupancy()
    }

    /// Finishes what is queued, then frees the session. Blocks until both are done.
    pub(crate) fn finish(&self) {
        self.queue.close();
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(worker) = worker
            && worker.join().is_err()
        {
            tracing::error!(model = self.name, version = self.version, "the worker panicked");
        }
    }
}

impl Drop for Served {
    /// A model that is dropped without [`Self::finish`] still lets its worker end.
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Counts a request exactly once, also when its future is dropped midway.
struct Counted<'a> {
    served: &'a Served,
    started: Instant,
    done: bool,
}

impl<'a> Counted<'a> {
    fn new(served: &'a Served, started: Instant) -> Self {
        Self {
            served,
            started,
            done: false,
        }
    }

    fn success(&mut self, rows: usize, timing: Timing) {
        self.done = true;
        self.served
            .statistics
            .succeeded(rows, self.started.elapsed(), timing);
    }

    fn failure(&mut self, error: &Error) {
        self.done = true;
        self.served.statistics.failed(error, self.started.elapsed());
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.failure(&Error::new(crate::api::Kind::Cancelled, "the client went away"));
        }
    }
}
