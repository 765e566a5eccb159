//! The folder that an engine loads: the model's files, and its settings as package and replica together say.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use afterglow_crds::gpu_node::DeviceType;
use afterglow_crds::model::{Model, PlacementRule, Task};
use serde_json::{Map, Value, json};

use crate::fetch::{Failure, Retry};

/// A `model.yaml` is some lines. One that is larger was made to fill our memory.
const SETTINGS: u64 = 1 << 20;

/// `model.yaml` as it is written for the engine. JSON is YAML.
pub(super) fn settings(tree: &Path, model: &Model, device: DeviceType) -> Result<String, Failure> {
    let path = tree.join("model.yaml");
    let mut own = String::new();
    let read = File::open(&path).and_then(|file| file.take(SETTINGS + 1).read_to_string(&mut own));
    match read {
        Ok(bytes) if bytes as u64 > SETTINGS => {
            return Err(invalid(
                "has more than 1 MiB; it holds settings, some lines of them",
            ));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // Its bytes are no text, whenever they are read.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(invalid(&format!("cannot be read: {error}")));
        }
        Err(error) => return Err(Failure::cache("reading a package's model.yaml", &error)),
    }
    let settings = merge(&own, model)?;
    if device == DeviceType::Gpu && settings.get("placement") == Some(&json!("cpu")) {
        return Err(Failure::new(
            "PlacementRefused",
            Retry::Never,
            "the package's model.yaml says `placement: cpu`, and its author may not move a model off the card; set \
             model.placement of the ModelDeployment to Prefer or Strict",
        ));
    }
    Ok(format!("{:#}\n", Value::Object(settings)))
}

fn merge(own: &str, model: &Model) -> Result<Map<String, Value>, Failure> {
    // Each field by name: one that is new in the kind must be honoured here before this compiles again.
    let Model {
        name,
        source: _,
        task,
        placement,
        batching,
    } = model;
    let mut settings = match own.trim() {
        "" => Map::new(),
        text => serde_saphyr::from_str::<Option<Map<String, Value>>>(text)
            .map_err(|e| invalid(&format!("is not what it must be: {e}")))?
            .unwrap_or_default(),
    };
    // A replica has one version, the deployment's revision; what the author numbered is not known here.
    settings.remove("versionPolicy");
    settings.remove("name");
    if let Some(name) = name {
        settings.insert("name".into(), json!(name));
    }
    if let Some(task) = task {
        let task = match task {
            Task::Tensor => "tensor",
            Task::Embedding => "embedding",
        };
        settings.insert("task".into(), json!(task));
    }
    if let Some(placement) = placement {
        let placement = match placement {
            PlacementRule::Prefer => "prefer",
            PlacementRule::Strict => "strict",
        };
        settings.insert("placement".into(), json!(placement));
    }
    if let Some(batching) = batching {
        let said = serde_json::to_value(batching).map_err(|e| invalid(&e.to_string()))?;
        let merged = settings
            .entry("batching")
            .or_insert_with(|| json!({}))
            .as_object_mut()
            .ok_or_else(|| invalid("has a `batching` that is no mapping"))?;
        merged.extend(said.as_object().cloned().unwrap_or_default());
    }
    Ok(settings)
}

fn invalid(what: &str) -> Failure {
    Failure::new(
        "PackageInvalid",
        Retry::Never,
        format!("the package's model.yaml {what}"),
    )
}

/// Makes `repository/name/{model.yaml,revision → tree}`, in the place of what was there.
pub(super) fn place(
    repository: &Path,
    name: &str,
    revision: i64,
    settings: &str,
    tree: &Path,
) -> std::io::Result<()> {
    let folder = repository.join(name);
    remove(&folder)?;
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("model.yaml"), settings)?;
    // A link: engines read through it, and its target cannot be told from a copy by content or digest.
    std::os::unix::fs::symlink(fs::canonicalize(tree)?, folder.join(revision.to_string()))
}

/// Removes a folder that may be there.
pub(super) fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use afterglow_crds::model::{Batching, Source};

    fn model() -> Model {
        Model {
            name: Some("embedder".into()),
            source: Source {
                uri: String::new(),
                digest: String::new(),
            },
            task: None,
            placement: None,
            batching: None,
        }
    }

    #[test]
    fn the_replica_has_the_last_word_and_the_package_the_rest() {
        let own = "name: x\ntask: embedding\nversionPolicy: { specific: [3] }\nbatching: { maxBatchSize: 4, maxQueue: 9 }\n";
        let said = Model {
            batching: Some(Batching {
                max_batch_size: Some(16),
                max_delay: Some("2ms".into()),
                ..Batching::default()
            }),
            placement: Some(PlacementRule::Strict),
            ..model()
        };
        assert_eq!(
            Value::Object(merge(own, &said).unwrap()),
            json!({
                "name": "embedder", "task": "embedding", "placement": "strict",
                "batching": {"maxBatchSize": 16, "maxDelay": "2ms", "maxQueue": 9}
            })
        );
        assert_eq!(
            Value::Object(merge("# nothing\n", &model()).unwrap()),
            json!({"name": "embedder"})
        );
        assert_eq!(merge("- a list", &model()).unwrap_err().reason, "PackageInvalid");
        assert_eq!(merge("batching: 3", &said).unwrap_err().reason, "PackageInvalid");
    }

    #[test]
    fn a_package_cannot_move_its_model_off_the_card() {
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("model.yaml"), "placement: cpu").unwrap();
        let refused = settings(tree.path(), &model(), DeviceType::Gpu).unwrap_err();
        assert_eq!(refused.reason, "PlacementRefused");
        assert!(settings(tree.path(), &model(), DeviceType::Cpu).is_ok());
        let said = Model {
            placement: Some(PlacementRule::Prefer),
            ..model()
        };
        assert!(
            settings(tree.path(), &said, DeviceType::Gpu)
                .unwrap()
                .contains("prefer")
        );
    }

    #[test]
    fn a_settings_file_of_any_size_costs_no_more_than_a_mebibyte() {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().join("model.yaml");
        // A file of 1 TiB, as a package of some bytes can hold it.
        let file = File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        let refused = settings(tree.path(), &model(), DeviceType::Gpu).unwrap_err();
        assert_eq!((refused.reason, refused.retry), ("PackageInvalid", Retry::Never));
        assert!(refused.message.contains("1 MiB"), "{refused}");
        file.set_len(0).unwrap();
        fs::write(&path, "task: tensor\n").unwrap();
        assert!(settings(tree.path(), &model(), DeviceType::Gpu).is_ok());
    }

    #[test]
    fn a_folder_is_made_anew_however_often() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("model.onnx"), "m").unwrap();
        for _ in 0..2 {
            place(root.path(), "ns.m-1", 3, "{}", &tree).unwrap();
        }
        assert_eq!(fs::read(root.path().join("ns.m-1/3/model.onnx")).unwrap(), b"m");
        remove(&root.path().join("ns.m-1")).unwrap();
        assert!(tree.join("model.onnx").exists(), "the link goes, the model stays");
    }
}
