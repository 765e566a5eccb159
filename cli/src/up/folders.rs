//! Plain model folders, `NAME/VERSION/model.onnx`: each version that is to be served becomes a package and a deployment that
//! nobody had to write.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use afterglow_crds::ModelDeployment;
use afterglow_crds::model::{Model, Source};
use afterglow_crds::model_deployment::ModelDeploymentSpec;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::wanted::Wanted;
use crate::package::{self, Contents};

/// The namespace of models that nobody has put into one.
pub(super) const NAMESPACE: &str = "default";

/// Packages made of folders, and where they lie.
#[derive(Debug)]
pub(super) struct Packages {
    folder: PathBuf,
    /// By what the files looked like: a model of a gigabyte is not read again because somebody looked.
    made: BTreeMap<String, (PathBuf, package::Package)>,
    /// What each folder was when it could be read: its models, and the keys of their packages.
    read: BTreeMap<PathBuf, (Vec<Wanted>, Vec<String>)>,
}

/// What of `model.yaml` decides here: which versions. The engine reads the rest.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    #[serde(default)]
    version_policy: VersionPolicy,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum VersionPolicy {
    Latest(usize),
    All,
    Specific(Vec<u64>),
}

impl Default for VersionPolicy {
    fn default() -> Self {
        Self::Latest(1)
    }
}

impl Packages {
    /// Packages in `folder`; what is left there from before is removed.
    pub(super) fn open(folder: PathBuf) -> Result<Self> {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("clearing {}", folder.display()));
            }
            _ => {}
        }
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self {
            folder,
            made: BTreeMap::new(),
            read: BTreeMap::new(),
        })
    }

    /// The models of `dir/models` where there is such a folder, else of `dir`. A model that cannot be read is a complaint; one
    /// that could before, and whose files are perhaps just being copied, stays as it was.
    pub(super) fn scan(&mut self, dir: &Path, cluster: &str, complaints: &mut Vec<String>) -> Vec<Wanted> {
        let models = dir.join("models");
        let root = if models.is_dir() { models } else { dir.to_owned() };
        let mut wanted = Vec::new();
        let mut seen = Vec::new();
        let entries = fs::read_dir(&root).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let mut folders: Vec<PathBuf> = match entries {
            Ok(entries) => entries.iter().map(fs::DirEntry::path).collect(),
            Err(error) => {
                complaints.push(format!(
                    "{}: {error}; its models stay as they were",
                    root.display()
                ));
                return self
                    .read
                    .values()
                    .flat_map(|(models, _)| models.clone())
                    .collect();
            }
        };
        folders.sort();
        for folder in folders.iter().filter(|path| path.is_dir()) {
            let name = folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.starts_with('.') {
                continue;
            }
            let mut keys = Vec::new();
            match self.model(folder, &name, cluster, &mut keys) {
                Ok(models) => {
                    self.read.insert(folder.clone(), (models, keys));
                }
                Err(error) => {
                    let stays = if self.read.contains_key(folder) {
                        "; the model stays in service as it was"
                    } else {
                        ""
                    };
                    complaints.push(format!("{}: {error:#}{stays}", folder.display()));
                }
            }
            if let Some((models, keys)) = self.read.get(folder) {
                wanted.extend(models.iter().cloned());
                seen.extend(keys.iter().cloned());
            }
        }
        self.read.retain(|folder, _| folders.contains(folder));
        self.made.retain(|key, (file, _)| {
            let stays = seen.contains(key);
            if !stays {
                let _ = fs::remove_file(file);
            }
            stays
        });
        wanted
    }

    fn model(
        &mut self,
        folder: &Path,
        name: &str,
        cluster: &str,
        seen: &mut Vec<String>,
    ) -> Result<Vec<Wanted>> {
        let versions = versions(folder);
        if versions.is_empty() {
            return Ok(Vec::new());
        }
        let policy = policy(folder)?;
        let chosen: Vec<u64> = match &policy {
            VersionPolicy::Latest(count) => versions.iter().rev().take(*count).rev().copied().collect(),
            VersionPolicy::All => versions,
            VersionPolicy::Specific(listed) => {
                let missing = listed.iter().find(|version| !versions.contains(version));
                anyhow::ensure!(
                    missing.is_none(),
                    "model.yaml asks for version {}, which is not there",
                    missing.unwrap_or(&0)
                );
                listed.clone()
            }
        };
        // One version takes over from another; several stand side by side.
        let side_by_side = policy != VersionPolicy::Latest(1);
        chosen
            .into_iter()
            .map(|version| {
                let (file, package) = self.package(folder, name, version, seen)?;
                let plain = super::plain_name(name);
                let object = if side_by_side {
                    format!("{plain}-v{version}")
                } else {
                    plain
                };
                Ok(wanted(&object, name, version, cluster, &file, &package))
            })
            .collect()
    }

    fn package(
        &mut self,
        folder: &Path,
        name: &str,
        version: u64,
        seen: &mut Vec<String>,
    ) -> Result<(PathBuf, package::Package)> {
        let contents = package::contents(&folder.join(version.to_string()))?;
        let key = signature(&contents)?;
        seen.push(key.clone());
        if let Some(made) = self.made.get(&key) {
            return Ok(made.clone());
        }
        let file = self
            .folder
            .join(format!("{}-{version}-{key}.tar", super::plain_name(name)));
        let package = package::write(&contents, &file)?;
        let made = (file, package);
        self.made.insert(key, made.clone());
        Ok(made)
    }
}

fn wanted(
    object: &str,
    name: &str,
    version: u64,
    cluster: &str,
    file: &Path,
    package: &package::Package,
) -> Wanted {
    let mut deployment = ModelDeployment::new(
        object,
        ModelDeploymentSpec {
            cluster: cluster.to_owned(),
            model: Model {
                name: Some(name.to_owned()),
                source: Source {
                    uri: format!("file://{}", file.display()),
                    digest: package.digest.clone(),
                },
                task: None,
                placement: None,
                batching: None,
            },
            replicas: 1,
            requirements: afterglow_crds::model_deployment::Requirements::default(),
            rollout: afterglow_crds::model_deployment::Rollout::default(),
            suspend: false,
        },
    );
    deployment.metadata.namespace = Some(NAMESPACE.to_owned());
    Wanted {
        deployment,
        revision: i64::try_from(version).ok(),
        bytes: Some(package.bytes),
    }
}

/// A version is a folder named by a whole number without leading zeros.
fn versions(folder: &Path) -> Vec<u64> {
    let mut versions: Vec<u64> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("model.onnx").is_file())
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.to_owned();
            let number: u64 = name.parse().ok()?;
            (number > 0 && number.to_string() == name).then_some(number)
        })
        .collect();
    versions.sort_unstable();
    versions
}

fn policy(folder: &Path) -> Result<VersionPolicy> {
    let text = match fs::read_to_string(folder.join("model.yaml")) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(VersionPolicy::default()),
        Err(error) => return Err(error).context("reading model.yaml"),
    };
    let settings: Option<Settings> = serde_saphyr::from_str(&text).context("reading model.yaml")?;
    Ok(settings.unwrap_or_default().version_policy)
}

/// What files look like without reading them.
fn signature(contents: &Contents) -> Result<String> {
    let mut hash = Sha256::new();
    for (name, path) in &contents.files {
        let about = fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
        let changed = about
            .modified()
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        hash.update(format!(
            "{name}\0{}\0{}\0{changed:?}\0",
            path.display(),
            about.len()
        ));
    }
    Ok(package::hex(&hash.finalize()[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn scan(folder: &Path) -> (Vec<(String, i64)>, Vec<String>) {
        let cache = tempfile::tempdir().unwrap();
        let mut packages = Packages::open(cache.path().join("packages")).unwrap();
        let mut complaints = Vec::new();
        let wanted = packages.scan(folder, "default", &mut complaints);
        let names = wanted
            .iter()
            .map(|wanted| {
                let name = wanted.deployment.metadata.name.clone().unwrap();
                (name, wanted.revision.unwrap())
            })
            .collect();
        (names, complaints)
    }

    #[test]
    fn the_newest_version_is_served_unless_model_yaml_says_otherwise() {
        let files = [
            ("m/1/model.onnx", "a"),
            ("m/2/model.onnx", "b"),
            ("m/x/model.onnx", "c"),
        ];
        let name = |name: &str, version| (name.to_owned(), version);
        let dir = folder(&files);
        assert_eq!(scan(dir.path()).0, [name("m", 2)]);
        for (yaml, wanted) in [
            ("versionPolicy: all", vec![name("m-v1", 1), name("m-v2", 2)]),
            ("versionPolicy: { specific: [1] }", vec![name("m-v1", 1)]),
            ("task: tensor\nversionPolicy: { latest: 1 }", vec![name("m", 2)]),
        ] {
            fs::write(dir.path().join("m/model.yaml"), yaml).unwrap();
            assert_eq!(scan(dir.path()).0, wanted, "{yaml}");
        }
        fs::write(
            dir.path().join("m/model.yaml"),
            "versionPolicy: { specific: [7] }",
        )
        .unwrap();
        let (none, complaints) = scan(dir.path());
        assert!(none.is_empty());
        assert!(complaints[0].contains("version 7"), "{complaints:?}");
    }

    #[test]
    fn a_folder_named_models_is_where_they_are() {
        let dir = folder(&[("models/a/1/model.onnx", "a"), ("b/1/model.onnx", "b")]);
        assert_eq!(scan(dir.path()).0, [("a".to_owned(), 1)]);
    }

    #[test]
    fn a_model_that_cannot_be_read_now_stays_as_it_was_with_its_package() {
        let dir = folder(&[
            ("m/1/model.onnx", "a"),
            ("m/model.yaml", "versionPolicy: { latest: 1 }"),
        ]);
        let cache = tempfile::tempdir().unwrap();
        let mut packages = Packages::open(cache.path().join("packages")).unwrap();
        let first = packages.scan(dir.path(), "default", &mut Vec::new());
        let file = first[0].deployment.spec.model.source.uri.replace("file://", "");
        // Half saved.
        fs::write(dir.path().join("m/model.yaml"), "versionPolicy: { lat").unwrap();
        for _ in 0..2 {
            let mut complaints = Vec::new();
            assert_eq!(packages.scan(dir.path(), "default", &mut complaints), first);
            assert!(complaints[0].contains("stays in service"), "{complaints:?}");
            assert!(Path::new(&file).exists(), "its package is still needed");
        }
        fs::remove_dir_all(dir.path().join("m")).unwrap();
        let mut complaints = Vec::new();
        assert!(packages.scan(dir.path(), "default", &mut complaints).is_empty());
        assert!(complaints.is_empty() && !Path::new(&file).exists());
    }

    #[test]
    fn a_package_is_made_once_and_again_when_a_file_changes() {
        let dir = folder(&[("m/1/model.onnx", "a")]);
        let cache = tempfile::tempdir().unwrap();
        let mut packages = Packages::open(cache.path().join("packages")).unwrap();
        let mut digest = || {
            let wanted = packages.scan(dir.path(), "default", &mut Vec::new()).remove(0);
            wanted.deployment.spec.model.source
        };
        let first = digest();
        assert_eq!(first, digest());
        fs::write(dir.path().join("m/1/model.onnx"), "bb").unwrap();
        let second = digest();
        assert_ne!(first.digest, second.digest);
        let left = fs::read_dir(cache.path().join("packages")).unwrap().count();
        assert_eq!(left, 1, "the old package is gone");
    }
}
