//! What a sentence-transformers model says of itself: `sentence_bert_config.json`, `modules.json`,
//! `1_Pooling/config.json`, `tokenizer_config.json`.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::repository::Pooling;

/// What the files say; `None` where no file says anything.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) max_tokens: Option<usize>,
    pub(super) pooling: Option<Pooling>,
    pub(super) normalize: Option<bool>,
    pub(super) lower_case: bool,
}

/// Reads the files of a version's folder.
pub(super) fn read(folder: &Path) -> Result<Said, String> {
    let sentence: Option<Map<String, Value>> = json(&folder.join("sentence_bert_config.json"))?;
    let tokenizer: Option<Map<String, Value>> = json(&folder.join("tokenizer_config.json"))?;
    let modules = modules(folder)?;
    let max_tokens = |config: &Option<Map<String, Value>>, key: &str| {
        let length = config.as_ref()?.get(key)?.as_f64()?;
        // Tokenizers without a limit write 1e30.
        (1.0..=131_072.0).contains(&length).then_some(length as usize)
    };
    Ok(Said {
        max_tokens: max_tokens(&sentence, "max_seq_length")
            .or_else(|| max_tokens(&tokenizer, "model_max_length")),
        pooling: match &modules.pooling {
            Some(folder) => pooling(folder)?,
            None => None,
        },
        normalize: modules.listed.then_some(modules.normalize),
        lower_case: sentence
            .and_then(|config| config.get("do_lower_case")?.as_bool())
            .unwrap_or(false),
    })
}

#[derive(Default)]
struct Modules {
    listed: bool,
    pooling: Option<PathBuf>,
    normalize: bool,
}

#[derive(serde::Deserialize)]
struct Module {
    path: String,
    r#type: String,
}

fn modules(folder: &Path) -> Result<Modules, String> {
    let Some(list) = json::<Vec<Module>>(&folder.join("modules.json"))? else {
        let default = folder.join("1_Pooling");
        return Ok(Modules {
            pooling: default.is_dir().then_some(default),
            ..Default::default()
        });
    };
    let mut modules = Modules {
        listed: true,
        ..Default::default()
    };
    for Module { path, r#type } in list {
        match r#type.rsplit('.').next().unwrap_or_default() {
            "Transformer" => {}
            "Pooling" if !path.contains(['/', '\\']) && path != ".." => {
                modules.pooling = Some(folder.join(path));
            }
            "Normalize" => modules.normalize = true,
            other => {
                return Err(format!(
                    "modules.json lists a module `{other}`, which this engine does not compute; export it into the \
                     ONNX file"
                ));
            }
        }
    }
    Ok(modules)
}

fn pooling(folder: &Path) -> Result<Option<Pooling>, String> {
    let Some(config) = json::<Map<String, Value>>(&folder.join("config.json"))? else {
        return Ok(None);
    };
    let chosen: Vec<&str> = config
        .iter()
        .filter(|(key, value)| key.starts_with("pooling_mode_") && **value == Value::Bool(true))
        .map(|(key, _)| key.as_str())
        .chain(config.get("pooling_mode").and_then(Value::as_str))
        .collect();
    match chosen.as_slice() {
        [] => Ok(None),
        ["pooling_mode_mean_tokens" | "mean"] => Ok(Some(Pooling::Mean)),
        ["pooling_mode_cls_token" | "cls"] => Ok(Some(Pooling::Cls)),
        ["pooling_mode_max_tokens" | "max"] => Ok(Some(Pooling::Max)),
        ["pooling_mode_lasttoken" | "lasttoken"] => Ok(Some(Pooling::LastToken)),
        other => Err(format!(
            "{}/config.json asks for {}; mean, cls, max and last token, one of them, can be computed",
            folder.file_name().unwrap_or_default().to_string_lossy(),
            other.join(" and ")
        )),
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let name = || {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| format!("{} cannot be understood: {e}", name())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} cannot be read: {error}", name())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn the_models_own_files_are_believed() {
        let folder = folder(&[
            (
                "sentence_bert_config.json",
                r#"{"max_seq_length": 256, "do_lower_case": false}"#,
            ),
            ("tokenizer_config.json", r#"{"model_max_length": 512}"#),
            (
                "modules.json",
                r#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
                    {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"},
                    {"idx":2,"name":"2","path":"2_Normalize","type":"sentence_transformers.models.Normalize"}]"#,
            ),
            (
                "1_Pooling/config.json",
                r#"{"word_embedding_dimension": 384, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#,
            ),
        ]);
        let expected = Said {
            max_tokens: Some(256),
            pooling: Some(Pooling::Mean),
            normalize: Some(true),
            lower_case: false,
        };
        assert_eq!(read(folder.path()).unwrap(), expected);
    }

    #[test]
    fn no_files_say_nothing_and_no_limit_is_no_limit() {
        assert_eq!(read(folder(&[]).path()).unwrap(), Said::default());
        let endless = folder(&[("tokenizer_config.json", r#"{"model_max_length": 1e30}"#)]);
        assert_eq!(read(endless.path()).unwrap().max_tokens, None);
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_name() {
        for (files, expected) in [
            (
                vec![(
                    "modules.json",
                    r#"[{"path":"2_Dense","type":"sentence_transformers.models.Dense"}]"#,
                )],
                "Dense",
            ),
            (vec![("modules.json", "[")], "modules.json"),
            (
                vec![(
                    "1_Pooling/config.json",
                    r#"{"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true}"#,
                )],
                "pooling_mode_max_tokens and pooling_mode_mean_tokens",
            ),
            (
                vec![(
                    "1_Pooling/config.json",
                    r#"{"pooling_mode_weightedmean_tokens": true}"#,
                )],
                "weightedmean",
            ),
        ] {
            let error = read(folder(&files).path()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
