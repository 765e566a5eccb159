//! What lies in the repository.

use std::io;
use std::path::{Path, PathBuf};

use super::{name, settings::Settings};

/// The repository: a folder of models.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
}

/// A model of the repository as it lies on disk.
#[derive(Debug, Clone)]
pub(crate) struct ModelFolder {
    /// The model's name.
    pub(crate) name: String,
    /// Its folder.
    pub(crate) path: PathBuf,
    /// Its versions, ascending; a version is a folder that is named by a number.
    pub(crate) versions: Vec<u64>,
    /// Its settings, or what is wrong with them (or with its name).
    pub(crate) settings: Result<Settings, String>,
}

impl Folder {
    /// `path/models` where there is such a folder, else `path`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let models = path.join("models");
        let root = if models.is_dir() { models } else { path.to_owned() };
        std::fs::read_dir(&root).map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("the model repository `{}` cannot be read: {e}", root.display()),
            )
        })?;
        Ok(Self { root })
    }

    /// Where it is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Every model that lies here now, by name. Hidden folders and plain files are not models.
    pub(crate) fn scan(&self) -> io::Result<Vec<ModelFolder>> {
        let mut names: Vec<String> = std::fs::read_dir(&self.root)?
            .filter_map(Result::ok)
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        Ok(names.iter().filter_map(|name| self.read(name)).collect())
    }

    /// One model; `None` if there is no such folder.
    pub(crate) fn model(&self, name: &str) -> Option<ModelFolder> {
        // A name that is no name must not become a path.
        name::fault(name).is_none().then(|| self.read(name)).flatten()
    }

    fn read(&self, name: &str) -> Option<ModelFolder> {
        let path = self.root.join(name);
        let mut versions: Vec<u64> = std::fs::read_dir(&path)
            .ok()?
            .filter_map(Result::ok)
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| name::version(&entry.file_name().to_string_lossy()))
            .collect();
        versions.sort_unstable();
        let settings = match name::fault(name) {
            Some(fault) => Err(fault),
            None => Settings::read(&path),
        };
        Some(ModelFolder {
            name: name.to_owned(),
            path,
            versions,
            settings,
        })
    }
}

impl ModelFolder {
    /// A version's folder.
    pub(crate) fn version(&self, version: u64) -> PathBuf {
        self.path.join(version.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_folders_with_numbered_folders_in_them() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["b/1", "b/10", "b/2", "b/x", "b/01", "a", ".git/1", "stats/1"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::fs::write(root.path().join("README.md"), "").unwrap();
        std::fs::write(root.path().join("b/3"), "a file").unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let models = folder.scan().unwrap();
        let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "stats"]);
        assert_eq!(models[1].versions, [1, 2, 10]);
        assert!(models[1].settings.is_ok());
        assert!(models[2].settings.as_ref().unwrap_err().contains("stats"));
        assert!(folder.model("../etc").is_none());
        assert!(folder.model("nobody").is_none());
    }

    #[test]
    fn a_models_folder_inside_is_the_repository() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Folder::open(root.path()).unwrap().root(), root.path());
        std::fs::create_dir(root.path().join("models")).unwrap();
        assert_eq!(
            Folder::open(root.path()).unwrap().root(),
            root.path().join("models")
        );
        let error = Folder::open(Path::new("/no/such/folder")).unwrap_err();
        assert!(error.to_string().contains("/no/such/folder"), "{error}");
    }
}
