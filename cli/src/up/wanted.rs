//! What a folder wants served: its YAML and its plain model folders, together.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use afterglow_crds::{InferenceCluster, ModelDeployment};

use super::documents::{self, Found, Located};
use super::folders::{NAMESPACE, Packages};

/// Behind what is wrong with something that was right before.
const STAYS: &str = "what it said before stays in service until this is mended";

/// A deployment, and what is known beside it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub(super) deployment: ModelDeployment,
    /// The number of its revision, where a folder says it.
    pub(super) revision: Option<i64>,
    /// Bytes of the model's file, where it lies on this machine.
    pub(super) bytes: Option<u64>,
}

/// A folder as it was looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Folder {
    pub(super) cluster: Option<InferenceCluster>,
    pub(super) wanted: Vec<Wanted>,
    pub(super) complaints: Vec<String>,
    pub(super) notices: Vec<String>,
    /// Each file as it was when all of it could be read.
    files: BTreeMap<PathBuf, Found>,
}

impl Folder {
    /// Name of the cluster that this process is.
    pub(super) fn cluster_name(&self) -> String {
        let name = self
            .cluster
            .as_ref()
            .and_then(|cluster| cluster.metadata.name.clone());
        name.unwrap_or_else(|| "default".to_owned())
    }

    /// Looks at a folder for the first time.
    pub(super) fn look(dir: &Path, packages: &mut Packages) -> Self {
        Self::default().again(dir, packages)
    }

    /// Looks again. What cannot be understood now, because somebody is just saving it or has made a mistake, stays wanted as
    /// it was: as an API server that refuses an update keeps the object. What is removed is wanted no more.
    pub(super) fn again(&self, dir: &Path, packages: &mut Packages) -> Self {
        let mut folder = Self::default();
        let files = match yaml_files(dir) {
            Ok(files) => files,
            Err(error) => {
                let complaint = format!("{}: {error}; all stays as it was", dir.display());
                return Self {
                    complaints: vec![complaint],
                    ..self.clone()
                };
            }
        };
        let mut deployments = Vec::new();
        for path in files {
            let found = self.read(&path, dir, &mut folder);
            folder.complaints.extend(found.complaints);
            folder.notices.extend(found.notices);
            deployments.extend(found.deployments);
            for cluster in found.clusters {
                folder.set_cluster(cluster);
            }
        }
        let name = folder.cluster_name();
        let mut named: BTreeMap<(String, String), String> = BTreeMap::new();
        let mut objects: BTreeMap<(String, String), String> = BTreeMap::new();
        for Located { at, object } in deployments {
            let before = self
                .wanted
                .iter()
                .find(|one| key(&one.deployment) == key(&object));
            let checked = match (check(&at, object, dir, &name), before) {
                (Err(complaint), Some(before)) => {
                    folder.complaints.push(format!("{complaint}; {STAYS}"));
                    Ok(before.clone())
                }
                (checked, _) => checked,
            };
            match checked {
                Ok(wanted) => {
                    let object = key(&wanted.deployment);
                    let model = (object.0.clone(), model_name(&wanted.deployment));
                    let taken = objects.get(&object).or(named.get(&model));
                    if let Some(first) = taken {
                        folder.complaints.push(format!(
                            "{at}: model `{}` of namespace `{}` stands at {first} already; give this one another name",
                            model.1, model.0
                        ));
                        continue;
                    }
                    objects.insert(object, at.clone());
                    named.insert(model, at);
                    folder.wanted.push(wanted);
                }
                Err(complaint) => folder.complaints.push(complaint),
            }
        }
        for plain in packages.scan(dir, &name, &mut folder.complaints) {
            let model = (NAMESPACE.to_owned(), model_name(&plain.deployment));
            match named.get(&model).or_else(|| objects.get(&key(&plain.deployment))) {
                Some(at) => folder.notices.push(format!(
                    "the folder of model `{}` is left alone: {at} says where the model comes from",
                    model.1
                )),
                None => folder.wanted.push(plain),
            }
        }
        folder
    }

    /// A file as it is, or as it was when all of it could be read.
    fn read(&self, path: &Path, dir: &Path, folder: &mut Self) -> Found {
        let before = self.files.get(path);
        let (found, wrong) = match fs::read_to_string(path) {
            Ok(text) => {
                let found = documents::read(shown(path, dir), &text);
                // Whoever saves a file may empty it first, or write its first letters.
                let lost = found.is_empty() && before.is_some_and(|before| !before.is_empty());
                let wrong = (lost && found.complaints.is_empty())
                    .then_some("it is empty; remove it to let its models go");
                (found, wrong.map(str::to_owned))
            }
            Err(error) => (Found::default(), Some(error.to_string())),
        };
        let wrong = wrong.map(|wrong| format!("{}: {wrong}", shown(path, dir).display()));
        let mut complaints = found.complaints.clone();
        complaints.extend(wrong);
        if complaints.is_empty() {
            folder.files.insert(path.to_owned(), found.clone());
            return found;
        }
        let Some(before) = before else {
            // What of a new file can be read is wanted; the rest is told.
            return Found { complaints, ..found };
        };
        folder.files.insert(path.to_owned(), before.clone());
        let complaints = complaints.iter().map(|complaint| format!("{complaint}; {STAYS}"));
        Found {
            complaints: complaints.collect(),
            ..before.clone()
        }
    }

    fn set_cluster(&mut self, Located { at, object }: Located<InferenceCluster>) {
        if self.cluster.is_some() {
            self.complaints.push(format!(
                "{at}: one machine is one InferenceCluster; remove this one or the other"
            ));
            return;
        }
        self.notices.push(format!(
            "{at}: of the InferenceCluster its name, cpuFallback, defaultNamespace, scheduler.strategy, agent.cache.size and \
             agent.s3 count on one machine; the rest is for Kubernetes"
        ));
        self.cluster = Some(object);
    }
}

fn yaml_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        if yaml && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn shown<'a>(file: &'a Path, dir: &Path) -> &'a Path {
    file.strip_prefix(dir).unwrap_or(file)
}

/// Namespace and name.
pub(super) fn key(deployment: &ModelDeployment) -> (String, String) {
    let metadata = &deployment.metadata;
    let namespace = metadata.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned());
    (namespace, metadata.name.clone().unwrap_or_default())
}

/// The name that clients use.
pub(super) fn model_name(deployment: &ModelDeployment) -> String {
    let model = &deployment.spec.model;
    model
        .name
        .clone()
        .unwrap_or_else(|| deployment.metadata.name.clone().unwrap_or_default())
}

/// What an API server would say, as far as it matters here; and a source beside the YAML gets its whole path.
fn check(at: &str, mut deployment: ModelDeployment, dir: &Path, cluster: &str) -> Result<Wanted, String> {
    let spec = &mut deployment.spec;
    if spec.cluster != cluster {
        return Err(format!(
            "{at}: spec.cluster is `{}`, and this machine is `{cluster}`; leave it out, or name an InferenceCluster of the folder so",
            spec.cluster
        ));
    }
    if spec.replicas < 0 {
        return Err(format!(
            "{at}: spec.replicas is {}; it cannot be less than 0",
            spec.replicas
        ));
    }
    let source = &mut spec.model.source;
    let hex = source.digest.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() != 64
        || !hex
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    {
        return Err(format!(
            "{at}: spec.model.source.digest must be `sha256:` and 64 hexadecimal digits; `afterglow pack` and sha256sum print it"
        ));
    }
    let mut bytes = None;
    if let Some(path) = source.uri.strip_prefix("file://") {
        let path = dir.join(path.trim_start_matches("./"));
        let path = std::path::absolute(&path).unwrap_or(path);
        bytes = fs::metadata(&path).ok().map(|about| about.len());
        source.uri = format!("file://{}", path.display());
    }
    deployment
        .metadata
        .namespace
        .get_or_insert_with(|| NAMESPACE.to_owned());
    Ok(Wanted {
        deployment,
        revision: None,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn deployment(name: &str, more: &str) -> String {
        format!(
            "apiVersion: afterglow.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{ name: {name} }}\n\
             spec:\n  model: {{ source: {{ uri: 'file://./m.tar', digest: '{DIGEST}' }} }}\n{more}"
        )
    }

    fn look(files: &[(&str, String)]) -> (Folder, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let cache = tempfile::tempdir().unwrap();
        let mut packages = Packages::open(cache.path().join("p")).unwrap();
        (Folder::look(dir.path(), &mut packages), dir)
    }

    #[test]
    fn a_source_beside_the_yaml_is_found_wherever_the_folder_lies() {
        let (folder, dir) = look(&[("m.yaml", deployment("m", "")), ("m.tar", "12345".into())]);
        assert!(folder.complaints.is_empty(), "{:?}", folder.complaints);
        let wanted = &folder.wanted[0];
        let path = dir.path().join("m.tar");
        assert_eq!(
            wanted.deployment.spec.model.source.uri,
            format!("file://{}", path.display())
        );
        assert_eq!(wanted.bytes, Some(5));
        assert_eq!(key(&wanted.deployment), ("default".to_owned(), "m".to_owned()));
    }

    #[test]
    fn yaml_comes_before_a_plain_folder_of_the_same_model() {
        let (folder, _dir) = look(&[
            ("m.yaml", deployment("m", "")),
            ("models/m/1/model.onnx", "x".into()),
            ("models/n/1/model.onnx", "x".into()),
        ]);
        let names: Vec<_> = folder.wanted.iter().map(|one| key(&one.deployment).1).collect();
        assert_eq!(names, ["m", "n"]);
        assert!(folder.notices[0].contains("m.yaml:1"), "{:?}", folder.notices);
    }

    #[test]
    fn what_cannot_be_is_told_and_the_rest_is_served() {
        let bad_digest = deployment("d", "").replace(DIGEST, "md5:1");
        let (folder, _dir) = look(&[
            ("a.yaml", deployment("m", "")),
            ("b.yaml", deployment("m", "")),
            ("c.yaml", deployment("c", "  cluster: other\n")),
            ("d.yaml", bad_digest),
            ("e.yaml", deployment("e", "  replicas: -1\n")),
        ]);
        assert_eq!(folder.wanted.len(), 1);
        let all = folder.complaints.join("\n");
        for told in [
            "b.yaml:1: model `m`",
            "c.yaml:1: spec.cluster",
            "d.yaml:1: spec.model.source.digest",
            "e.yaml:1: spec.replicas",
        ] {
            assert!(all.contains(told), "{told} in {all}");
        }
    }

    #[test]
    fn what_is_being_saved_or_has_become_wrong_stays_as_it_was_until_it_is_mended_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, cache) = (dir.path().join("m.yaml"), tempfile::tempdir().unwrap());
        let mut packages = Packages::open(cache.path().join("p")).unwrap();
        let whole = deployment("m", "  replicas: 2\n");
        fs::write(&file, &whole).unwrap();
        let mut folder = Folder::look(dir.path(), &mut packages);
        let wanted = folder.wanted.clone();
        assert_eq!(wanted.len(), 1, "{:?}", folder.complaints);
        let wrong = whole.replace(DIGEST, "md5:1");
        let unknown = whole.replace("replicas", "replica");
        for text in ["", "apiV", &whole[..whole.len() - 20], &unknown, &wrong] {
            fs::write(&file, text).unwrap();
            for _ in 0..2 {
                folder = folder.again(dir.path(), &mut packages);
                assert_eq!(folder.wanted, wanted, "{text:?}");
                assert_eq!(folder.complaints.len(), 1, "{text:?}: {:?}", folder.complaints);
                assert!(folder.complaints[0].ends_with(STAYS), "{:?}", folder.complaints);
            }
        }
        fs::write(&file, deployment("m", "  replicas: 3\n")).unwrap();
        folder = folder.again(dir.path(), &mut packages);
        assert_eq!(folder.wanted[0].deployment.spec.replicas, 3);
        assert!(folder.complaints.is_empty(), "{:?}", folder.complaints);
        fs::remove_file(&file).unwrap();
        folder = folder.again(dir.path(), &mut packages);
        assert!(folder.wanted.is_empty() && folder.complaints.is_empty());
    }

    #[test]
    fn a_folder_that_cannot_be_listed_now_wants_what_it_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let cache = tempfile::tempdir().unwrap();
        let mut packages = Packages::open(cache.path().join("p")).unwrap();
        fs::write(dir.path().join("m.yaml"), deployment("m", "")).unwrap();
        let folder = Folder::look(dir.path(), &mut packages);
        let gone = folder.again(&dir.path().join("nowhere"), &mut packages);
        assert_eq!(gone.wanted, folder.wanted);
        assert_eq!(gone.complaints.len(), 1);
    }

    #[test]
    fn a_cluster_gives_its_name_and_there_is_one() {
        let cluster = |name: &str| {
            format!(
                "apiVersion: afterglow.dev/v1alpha1\nkind: InferenceCluster\nmetadata: {{ name: {name} }}\nspec: {{}}\n"
            )
        };
        let (folder, _dir) = look(&[
            ("a.yaml", cluster("home")),
            ("b.yaml", cluster("other")),
            ("m.yaml", deployment("m", "  cluster: home\n")),
        ]);
        assert_eq!(folder.cluster_name(), "home");
        assert_eq!(folder.wanted.len(), 1);
        assert_eq!(folder.complaints.len(), 1, "{:?}", folder.complaints);
    }
}
