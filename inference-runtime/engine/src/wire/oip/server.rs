//! What the server says of itself, of its models and of its repository.

use afterglow_proto::inference as proto;
use afterglow_proto::inference::model_metadata_response::TensorMetadata;
use afterglow_proto::inference::repository_index_response::ModelIndex;
use serde_json::{Value, json};

use crate::api::{IndexEntry, ModelMetadata, TensorSpec};

/// The server's name on the wire.
pub(crate) const NAME: &str = "afterglow";

/// Our version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Extensions that work. Clients act on these strings: none is listed that does not.
pub(crate) const EXTENSIONS: [&str; 7] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
];

/// `GET /v2`.
pub(crate) fn json() -> Value {
    json!({"name": NAME, "version": VERSION, "extensions": EXTENSIONS})
}

/// `ServerMetadata`.
pub(crate) fn message() -> proto::ServerMetadataResponse {
    proto::ServerMetadataResponse {
        name: NAME.to_owned(),
        version: VERSION.to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

/// `GET /v2/models/{model}`.
pub(crate) fn model_json(metadata: &ModelMetadata) -> Value {
    let ModelMetadata {
        name,
        versions,
        platform,
        inputs,
        outputs,
    } = metadata;
    json!({
        "name": name,
        "versions": versions,
        "platform": platform,
        "inputs": inputs.iter().map(tensor_json).collect::<Vec<_>>(),
        "outputs": outputs.iter().map(tensor_json).collect::<Vec<_>>(),
    })
}

/// `ModelMetadata`.
pub(crate) fn model_message(metadata: ModelMetadata) -> proto::ModelMetadataResponse {
    let ModelMetadata {
        name,
        versions,
        platform,
        inputs,
        outputs,
    } = metadata;
    proto::ModelMetadataResponse {
        name,
        versions,
        platform: platform.to_owned(),
        inputs: inputs.into_iter().map(tensor_message).collect(),
        outputs: outputs.into_iter().map(tensor_message).collect(),
    }
}

/// `POST /v2/repository/index`.
pub(crate) fn index_json(index: &[IndexEntry]) -> Value {
    let entry = |IndexEntry {
                     name,
                     version,
                     state,
                     reason,
                 }: &IndexEntry| {
        // The version is left out where there is none: clients print it.
        let mut entry = json!({"name": name, "state": state.name(), "reason": reason});
        if !version.is_empty() {
            entry["version"] = json!(version);
        }
        entry
    };
    index.iter().map(entry).collect()
}

/// `RepositoryIndex`.
pub(crate) fn index_message(index: Vec<IndexEntry>) -> proto::RepositoryIndexResponse {
    let entry = |IndexEntry {
                     name,
                     version,
                     state,
                     reason,
                 }| ModelIndex {
        name,
        version,
        state: state.name().to_owned(),
        reason,
    };
    proto::RepositoryIndexResponse {
        models: index.into_iter().map(entry).collect(),
    }
}

fn tensor_json(spec: &TensorSpec) -> Value {
    json!({"name": spec.name, "datatype": spec.datatype.name(), "shape": spec.shape})
}

fn tensor_message(spec: TensorSpec) -> TensorMetadata {
    TensorMetadata {
        name: spec.name,
        datatype: spec.datatype.name().to_owned(),
        shape: spec.shape,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ModelState;

    #[test]
    fn the_index_leaves_out_a_version_that_is_not_there() {
        let entry = |version: &str, state, reason: &str| IndexEntry {
            name: "m".into(),
            version: version.into(),
            state,
            reason: reason.into(),
        };
        let index = [
            entry("1", ModelState::Ready, ""),
            entry("", ModelState::Unavailable, "broken"),
        ];
        assert_eq!(
            index_json(&index),
            json!([
                {"name": "m", "version": "1", "state": "READY", "reason": ""},
                {"name": "m", "state": "UNAVAILABLE", "reason": "broken"},
            ])
        );
    }

    #[test]
    fn extensions_are_listed_once_and_in_order() {
        assert!(EXTENSIONS.is_sorted());
    }
}
