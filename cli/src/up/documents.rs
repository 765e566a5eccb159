//! The YAML of a folder: our kinds out of it, and for what is wrong file, line and what to do.

use std::path::Path;

use afterglow_crds::{GROUP, InferenceCluster, ModelDeployment};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What was found in one file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Found {
    pub(super) deployments: Vec<Located<ModelDeployment>>,
    pub(super) clusters: Vec<Located<InferenceCluster>>,
    /// What is wrong.
    pub(super) complaints: Vec<String>,
    /// What is left alone, and why.
    pub(super) notices: Vec<String>,
}

impl Found {
    /// Whether there is nothing of ours in it.
    pub(super) fn is_empty(&self) -> bool {
        self.deployments.is_empty() && self.clusters.is_empty()
    }
}

/// A document and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Located<T> {
    pub(super) at: String,
    pub(super) object: T,
}

/// Reads a file's documents.
pub(super) fn read(file: &Path, text: &str) -> Found {
    let mut found = Found::default();
    for (line, document) in documents(text) {
        // Comments and blanks before the document are not where it begins.
        let blank = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
        let begin = line + document.lines().take_while(blank).count();
        let at = format!("{}:{begin}", file.display());
        if let Err(complaint) = one(&mut found, &at, file, line, document) {
            found.complaints.push(complaint);
        }
    }
    found
}

/// The documents of a stream, each with the number of its first line.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut start, mut first, mut offset) = (0, 1, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        if bare == "---" || bare.starts_with("--- ") || bare == "..." {
            found.push((first, &text[start..offset]));
            start = offset + line.len();
            first = number + 2;
        }
        offset += line.len();
    }
    found.push((first, &text[start..]));
    let empty = |document: &str| {
        document
            .lines()
            .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    };
    found.retain(|(_, document)| !empty(document));
    found
}

fn one(found: &mut Found, at: &str, file: &Path, line: usize, document: &str) -> Result<(), String> {
    let value: Value = parse(file, line, document)?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if group != GROUP {
        let kind = if kind.is_empty() {
            "a document without `kind`"
        } else {
            kind
        };
        found
            .notices
            .push(format!("{at}: {kind} is left alone; it is not of {GROUP}"));
        return Ok(());
    }
    match kind {
        "ModelDeployment" => {
            let object = object(at, file, line, document, &value)?;
            found.deployments.push(Located {
                at: at.to_owned(),
                object,
            });
        }
        "InferenceCluster" => {
            let object = object(at, file, line, document, &value)?;
            found.clusters.push(Located {
                at: at.to_owned(),
                object,
            });
        }
        "ModelReplica" | "GpuNode" => found
            .notices
            .push(format!("{at}: {kind} is left alone; it is made here, not read")),
        other => {
            return Err(format!(
                "{at}: {GROUP} has no kind `{other}`; ModelDeployment and InferenceCluster are read here"
            ));
        }
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(file: &Path, line: usize, document: &str) -> Result<T, String> {
    serde_saphyr::from_str(document).map_err(|error| {
        let inside = error
            .location()
            .map_or(1, |location| location.line().max(1) as usize);
        let text = error.to_string();
        // What follows the first line draws the place, with line numbers of the document alone.
        let first = text.lines().next().unwrap_or_default();
        format!("{}:{}: {first}", file.display(), line + inside - 1)
    })
}

fn object<T: DeserializeOwned + Serialize>(
    at: &str,
    file: &Path,
    line: usize,
    document: &str,
    value: &Value,
) -> Result<T, String> {
    if value["apiVersion"] != format!("{GROUP}/{}", afterglow_crds::VERSION).as_str() {
        return Err(format!(
            "{at}: apiVersion {} is not known; write {GROUP}/{}",
            value["apiVersion"],
            afterglow_crds::VERSION
        ));
    }
    let object: T = parse(file, line, document)?;
    // A field that nobody reads is a wish that nobody honours.
    let read = serde_json::to_value(&object).map_err(|error| format!("{at}: {error}"))?;
    if let Some(path) = unknown(&value["spec"], &read["spec"], "spec") {
        return Err(format!(
            "{at}: there is no field `{path}`; see docs/guide/api.md for those that are"
        ));
    }
    if value["metadata"]["name"].as_str().is_none_or(str::is_empty) {
        return Err(format!("{at}: `metadata.name` is missing"));
    }
    Ok(object)
}

/// The first field that was written and is not there after reading.
fn unknown(written: &Value, read: &Value, path: &str) -> Option<String> {
    let Value::Object(fields) = written else {
        if let (Value::Array(written), Value::Array(read)) = (written, read) {
            return written
                .iter()
                .zip(read)
                .find_map(|(written, read)| unknown(written, read, path));
        }
        return None;
    };
    fields.iter().find_map(|(name, value)| {
        let path = format!("{path}.{name}");
        let nothing = match value {
            Value::Null => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        match read.get(name) {
            None if nothing => None,
            None => Some(path),
            Some(read) => unknown(value, read, &path),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
apiVersion: afterglow.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: m
spec:
  requirements: { families: [] }
  model:
    source:
      uri: https://h/m.onnx
      digest: sha256:0
";

    fn complaints(text: &str) -> Vec<String> {
        read(Path::new("f.yaml"), text).complaints
    }

    #[test]
    fn our_kinds_are_read_and_others_left_alone() {
        let text = format!(
            "# a comment\n---\n{GOOD}---\napiVersion: v1\nkind: Service\n---\n\
             apiVersion: afterglow.dev/v1alpha1\nkind: InferenceCluster\nmetadata: {{ name: c }}\nspec: {{ cpuFallback: Allowed }}\n"
        );
        let found = read(Path::new("f.yaml"), &text);
        assert!(found.complaints.is_empty(), "{:?}", found.complaints);
        assert_eq!(found.deployments[0].at, "f.yaml:3");
        assert_eq!(found.deployments[0].object.metadata.name.as_deref(), Some("m"));
        assert_eq!(found.clusters.len(), 1);
        assert_eq!(
            found.notices,
            ["f.yaml:14: Service is left alone; it is not of afterglow.dev"]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_line() {
        let unknown = GOOD.replace("  model:\n", "  replica: 2\n  model:\n");
        assert_eq!(
            complaints(&unknown),
            ["f.yaml:1: there is no field `spec.replica`; see docs/guide/api.md for those that are"]
        );
        let typed = format!(
            "\n\n---\n{}",
            GOOD.replace("  model:\n", "  replicas: two\n  model:\n")
        );
        let complaint = complaints(&typed).remove(0);
        assert!(complaint.starts_with("f.yaml:10: "), "{complaint}");
        let broken = complaints("a: [1\n").remove(0);
        assert!(broken.starts_with("f.yaml:"), "{broken}");
        let kind = complaints(&GOOD.replace("ModelDeployment", "ModelDeploymnet")).remove(0);
        assert!(kind.contains("no kind `ModelDeploymnet`"), "{kind}");
        let version = complaints(&GOOD.replace("v1alpha1", "v1")).remove(0);
        assert!(version.contains("write afterglow.dev/v1alpha1"), "{version}");
    }
}
