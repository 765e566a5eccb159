//! `model.yaml`: what a model's owner may say. Nothing is accepted that is not honoured.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{duration, name};

/// A model's settings. Every key has a default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// What clients call the model; absent: as its folder is called. Not written out again: the probe does not need it,
    /// and a model under another name is the same model to probe and to load.
    #[serde(skip_serializing)]
    pub(crate) name: Option<String>,
    /// What the model is for.
    pub(crate) task: Task,
    /// What may run on the CPU.
    pub(crate) placement: PlacementRule,
    /// Which versions are served.
    pub(crate) version_policy: VersionPolicy,
    /// How requests are merged and queued.
    pub(crate) batching: Batching,
    /// Only with `task: embedding`.
    pub(crate) embedding: Option<Embedding>,
    /// Runs before the model is ready.
    pub(crate) warm_up: Vec<WarmUp>,
    /// How the probe tries the model.
    pub(crate) probe: Probe,
}

/// What a model is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Task {
    /// Tensors in, tensors out.
    #[default]
    Tensor,
    /// Also text in, one vector out.
    Embedding,
}

/// What may run on the CPU while the engine has another device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum PlacementRule {
    /// What the device cannot run; it is shown. The whole model is an error.
    #[default]
    Prefer,
    /// Nothing but shape arithmetic.
    Strict,
    /// The whole model, by request.
    Cpu,
}

/// Which versions are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum VersionPolicy {
    /// The highest n.
    Latest(usize),
    /// All of them.
    All,
    /// These.
    Specific(Vec<u64>),
}

impl Default for VersionPolicy {
    fn default() -> Self {
        Self::Latest(1)
    }
}

impl VersionPolicy {
    /// The versions to serve out of those `present` (ascending).
    pub(crate) fn choose(&self, present: &[u64]) -> Vec<u64> {
        match self {
            Self::All => present.to_vec(),
            Self::Latest(n) => present[present.len().saturating_sub(*n)..].to_vec(),
            Self::Specific(wanted) => present.iter().copied().filter(|v| wanted.contains(v)).collect(),
        }
    }
}

/// How requests are merged and queued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Batching {
    /// Most rows of a batch; 0 = never merge. Absent: 8 where the model's first axes are a batch, else 0.
    pub(crate) max_batch_size: Option<usize>,
    /// How long the first request waits for company.
    #[serde(with = "duration")]
    pub(crate) max_delay: Duration,
    /// Sizes at which a batch goes at once.
    pub(crate) preferred_sizes: Vec<usize>,
    /// Most requests that wait.
    pub(crate) max_queue: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            max_batch_size: None,
            // Merging what waits anyway costs nothing; waiting for company is for the owner to allow.
            max_delay: Duration::ZERO,
            preferred_sizes: Vec::new(),
            max_queue: 256,
        }
    }
}

/// How text becomes a vector. What is absent is taken from the model's own files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Embedding {
    /// File of the tokenizer, beside the model.
    pub(crate) tokenizer: Option<String>,
    /// Longest text in tokens, special ones included.
    pub(crate) max_tokens: Option<usize>,
    /// How token vectors become one.
    pub(crate) pooling: Option<Pooling>,
    /// Whether vectors are scaled to length 1.
    pub(crate) normalize: Option<bool>,
    /// The output that holds token vectors (or, with rank 2, the finished ones).
    pub(crate) output: Option<String>,
    /// Put before every text.
    pub(crate) prompt: Option<String>,
}

/// How token vectors become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Pooling {
    /// Their mean, padding left out.
    Mean,
    /// The first.
    Cls,
    /// Their elementwise maximum, padding left out.
    Max,
    /// The last that is not padding.
    LastToken,
}

/// A run before the model is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WarmUp {
    /// Rows.
    #[serde(default = "one")]
    pub(crate) batch: usize,
    /// Extents of an input, without the batch axis where the model batches.
    #[serde(default)]
    pub(crate) shapes: BTreeMap<String, Vec<usize>>,
}

fn one() -> usize {
    1
}

/// How the probe tries the model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Probe {
    /// How far the device may be from ONNX Runtime's CPU provider.
    pub(crate) tolerance: Tolerance,
    /// What the inputs look like.
    pub(crate) inputs: BTreeMap<String, ProbeInput>,
}

/// How far the device may be from the reference: `|a − b| ≤ absolute + relative × the output's largest magnitude`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Tolerance {
    /// Share of the output's largest magnitude; for FP16 and BF16 outputs at least their own precision counts.
    pub(crate) relative: f64,
    /// In the output's unit; integers are held to this alone.
    pub(crate) absolute: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            relative: 1e-3,
            absolute: 0.0,
        }
    }
}

/// What an input looks like when the probe makes it up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct ProbeInput {
    /// Extents, without the batch axis where the model batches.
    pub(crate) shape: Option<Vec<usize>>,
    /// Smallest value.
    pub(crate) minimum: Option<f64>,
    /// Largest value.
    pub(crate) maximum: Option<f64>,
}

impl Settings {
    /// Reads `folder/model.yaml`; a missing file is all defaults. Errors name the file, the place and the key.
    pub(crate) fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join("model.yaml");
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("model.yaml cannot be read: {error}")),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let settings: Self = match text.trim() {
            "" => Self::default(),
            _ => serde_saphyr::from_str(text)
                .map_err(|e| format!("model.yaml: {}", e.to_string().trim_start_matches("error: ")))?,
        };
        settings.check().map_err(|e| format!("model.yaml: {e}"))?;
        Ok(settings)
    }

    /// What types alone cannot say.
    pub(crate) fn check(&self) -> Result<(), String> {
        const MOST_ROWS: usize = 4096;
        if let Some(fault) = self.name.as_deref().and_then(name::fault) {
            return Err(format!("name: {fault}"));
        }
        let Batching {
            max_batch_size,
            max_delay,
            preferred_sizes,
            max_queue,
        } = &self.batching;
        if max_batch_size.is_some_and(|n| n > MOST_ROWS) {
            return Err(format!("batching.maxBatchSize is at most {MOST_ROWS}"));
        }
        if *max_delay > Duration::from_secs(10) {
            return Err("batching.maxDelay is at most 10s".to_owned());
        }
        if !(1..=65_536).contains(max_queue) {
            return Err("batching.maxQueue is 1 to 65536".to_owned());
        }
        if let Some(size) = preferred_sizes
            .iter()
            .find(|&&size| size == 0 || max_batch_size.is_some_and(|max| size > max))
        {
            return Err(format!(
                "batching.preferredSizes: {size} is not within 1 and maxBatchSize"
            ));
        }
        match (&self.task, &self.embedding) {
            (Task::Tensor, Some(_)) => return Err("`embedding` needs `task: embedding`".to_owned()),
            (Task::Embedding, Some(embedding))
                if embedding.max_tokens.is_some_and(|n| !(1..=131_072).contains(&n)) =>
            {
                return Err("embedding.maxTokens is 1 to 131072".to_owned());
            }
            _ => {}
        }
        match &self.version_policy {
            VersionPolicy::Latest(0) => return Err("versionPolicy.latest is at least 1".to_owned()),
            VersionPolicy::Specific(versions) if versions.is_empty() || versions.contains(&0) => {
                return Err("versionPolicy.specific lists versions from 1".to_owned());
            }
            _ => {}
        }
        if let Some(run) = self
            .warm_up
            .iter()
            .find(|run| run.batch == 0 || run.batch > MOST_ROWS)
        {
            return Err(format!(
                "warmUp: a batch of {} rows; 1 to {MOST_ROWS} are possible",
                run.batch
            ));
        }
        let Tolerance { relative, absolute } = self.probe.tolerance;
        if !(relative.is_finite() && relative >= 0.0 && absolute.is_finite() && absolute >= 0.0) {
            return Err("probe.tolerance: finite numbers from 0".to_owned());
        }
        for (name, input) in &self.probe.inputs {
            if let (Some(minimum), Some(maximum)) = (input.minimum, input.maximum)
                && (minimum.is_nan() || maximum.is_nan() || minimum > maximum)
            {
                return Err(format!(
                    "probe.inputs.{name}: minimum {minimum} is above maximum {maximum}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let mut settings = Settings::parse(
            "name: embedder\n\
             task: embedding\n\
             placement: strict\n\
             versionPolicy: { latest: 2 }\n\
             batching: { maxBatchSize: 32, maxDelay: 2ms, preferredSizes: [8, 16], maxQueue: 64 }\n\
             embedding: { tokenizer: t.json, maxTokens: 256, pooling: lastToken, normalize: true, output: h, prompt: 'query: ' }\n\
             warmUp: [ { batch: 1 }, { batch: 8, shapes: { input_ids: [128] } } ]\n\
             probe: { tolerance: { relative: 1e-2, absolute: 1e-4 }, inputs: { x: { shape: [3, 224, 224], minimum: -1, maximum: 1 } } }\n",
        )
        .unwrap();
        assert_eq!(settings.task, Task::Embedding);
        assert_eq!(settings.placement, PlacementRule::Strict);
        assert_eq!(settings.version_policy, VersionPolicy::Latest(2));
        assert_eq!(
            settings.batching,
            Batching {
                max_batch_size: Some(32),
                max_delay: Duration::from_millis(2),
                preferred_sizes: vec![8, 16],
                max_queue: 64
            }
        );
        let embedding = settings.embedding.clone().unwrap();
        assert_eq!(embedding.pooling, Some(Pooling::LastToken));
        assert_eq!(embedding.prompt.as_deref(), Some("query: "));
        assert_eq!(settings.warm_up[1].shapes["input_ids"], [128]);
        assert_eq!(
            settings.probe.inputs["x"].shape.as_deref(),
            Some(&[3, 224, 224][..])
        );
        assert!((settings.probe.tolerance.relative - 1e-2).abs() < 1e-12);

        assert_eq!(settings.name.take().as_deref(), Some("embedder"));
        let again: Settings = serde_json::from_slice(&serde_json::to_vec(&settings).unwrap()).unwrap();
        assert_eq!(again, settings, "settings travel to the probe as JSON");
    }

    #[test]
    fn nothing_is_needed() {
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
        assert_eq!(Settings::parse("# nothing yet\n").unwrap(), Settings::default());
        assert_eq!(
            Settings::parse("versionPolicy: all").unwrap().version_policy,
            VersionPolicy::All
        );
    }

    #[test]
    fn what_is_not_honoured_is_refused_and_named() {
        for (text, expected) in [
            ("tusk: embedding", "tusk"),
            ("name: a/b", "name"),
            ("task: chat", "chat"),
            ("batching: { maxBatch: 4 }", "maxBatch"),
            ("batching: { maxDelay: 2 hours }", "2 hours"),
            ("batching: { maxDelay: 11s }", "maxDelay"),
            ("batching: { maxQueue: 0 }", "maxQueue"),
            (
                "batching: { maxBatchSize: 4, preferredSizes: [8] }",
                "preferredSizes",
            ),
            ("batching: { maxBatchSize: -1 }", "maxBatchSize"),
            ("embedding: { pooling: mean }", "task: embedding"),
            ("{task: embedding, embedding: { pooling: sum }}", "sum"),
            ("versionPolicy: { latest: 0 }", "latest"),
            ("versionPolicy: { specific: [] }", "specific"),
            ("warmUp: [ { batch: 0 } ]", "warmUp"),
            ("probe: { tolerance: { relative: -1 } }", "tolerance"),
            (
                "probe: { inputs: { x: { minimum: 2, maximum: 1 } } }",
                "probe.inputs.x",
            ),
            ("placement: gpu", "gpu"),
            ("task: [", "model.yaml"),
            ("task: tensor\ntask: embedding", "task"),
        ] {
            let error = Settings::parse(text).unwrap_err();
            assert!(
                error.contains(expected) && error.starts_with("model.yaml"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn versions_are_chosen_as_the_policy_says() {
        let present = [1, 3, 7];
        assert_eq!(VersionPolicy::default().choose(&present), [7]);
        assert_eq!(VersionPolicy::Latest(2).choose(&present), [3, 7]);
        assert_eq!(VersionPolicy::Latest(9).choose(&present), present);
        assert_eq!(VersionPolicy::All.choose(&present), present);
        assert_eq!(VersionPolicy::Specific(vec![1, 2]).choose(&present), [1]);
        assert!(VersionPolicy::default().choose(&[]).is_empty());
    }
}
