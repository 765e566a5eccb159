//! The server's answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A line of the repository index.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct IndexEntry {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) reason: String,
}

impl IndexEntry {
    /// Whether the version serves.
    pub(crate) fn is_ready(&self) -> bool {
        self.state == "READY"
    }
}

/// A model's inputs and outputs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) inputs: Vec<TensorMetadata>,
    pub(crate) outputs: Vec<TensorMetadata>,
}

/// An input or output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TensorMetadata {
    pub(crate) name: String,
    pub(crate) datatype: String,
    pub(crate) shape: Vec<i64>,
}

/// What of a model runs where, from the parameters of its configuration.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Placement {
    pub(crate) device: String,
    pub(crate) device_nodes: u64,
    pub(crate) cpu_nodes: u64,
    pub(crate) partitions: u64,
    pub(crate) cpu_operators: String,
}

impl Placement {
    /// Read from a Triton model configuration, if the server put it there.
    pub(crate) fn from_config(config: &Value) -> Option<Self> {
        let text = |key: &str| {
            Some(
                config["parameters"]
                    .get(key)?
                    .get("string_value")?
                    .as_str()?
                    .to_owned(),
            )
        };
        let number = |key: &str| text(key)?.parse().ok();
        Some(Self {
            device: text("afterglow.device")?,
            device_nodes: number("afterglow.device_nodes")?,
            cpu_nodes: number("afterglow.cpu_nodes")?,
            partitions: number("afterglow.partitions")?,
            cpu_operators: text("afterglow.cpu_operators").unwrap_or_default(),
        })
    }
}

/// An answer of `/v1/embeddings`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Embeddings {
    pub(crate) data: Vec<Embedding>,
    pub(crate) usage: Usage,
}

/// One vector.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Embedding {
    pub(crate) embedding: Vec<f32>,
}

/// What was counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u64,
    pub(crate) total_tokens: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn placement_comes_from_the_configurations_parameters() {
        let parameter = |value: &str| json!({ "string_value": value });
        let config = json!({ "parameters": {
            "afterglow.device": parameter("opencl:0"),
            "afterglow.device_nodes": parameter("12"),
            "afterglow.cpu_nodes": parameter("1"),
            "afterglow.partitions": parameter("2"),
            "afterglow.cpu_operators": parameter("NonZero"),
        }});
        let placement = Placement::from_config(&config).unwrap();
        assert_eq!((placement.device_nodes, placement.cpu_nodes), (12, 1));
        assert!(
            Placement::from_config(&json!({})).is_none(),
            "another server's configuration has none"
        );
    }
}
