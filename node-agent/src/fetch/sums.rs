//! What each file of an unpacked model is: kept beside the models, so that a bit that has flipped on a disk since, or a file
//! that somebody has changed, is noticed before anything parses it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::digest::Digest;

/// A list of the most files that a package may hold, with long names, is smaller.
const LONGEST: u64 = 16 << 20;

/// The files of a tree, each with its digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sums(BTreeMap<PathBuf, Digest>);

impl Sums {
    pub(super) fn insert(&mut self, path: PathBuf, digest: Digest) {
        self.0.insert(path, digest);
    }

    /// Those of the files that are in `tree` now.
    pub(super) fn of(tree: &Path) -> io::Result<Self> {
        let mut sums = Self::default();
        sums.add(tree, Path::new(""))?;
        Ok(sums)
    }

    fn add(&mut self, tree: &Path, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(tree.join(folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.add(tree, &path)?;
            } else {
                let digest = Digest::read(File::open(tree.join(&path))?)?;
                self.insert(path, digest);
            }
        }
        Ok(())
    }

    /// One line a file, as `sha256sum` writes them; on disk when this returns.
    pub(super) fn write(&self, at: &Path) -> io::Result<()> {
        let mut text = String::new();
        for (path, digest) in &self.0 {
            let _ = writeln!(
                text,
                "{}  {}",
                digest.hex(),
                path.display().to_string().escape_debug()
            );
        }
        if let Some(folder) = at.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::create(at)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }

    /// Whether `at` says of every file what is in `tree`.
    pub(super) fn hold(at: &Path, tree: &Path) -> io::Result<bool> {
        let mut known = String::new();
        File::open(at)?.take(LONGEST).read_to_string(&mut known)?;
        let found = Self::of(tree)?;
        let mut lines = known.lines();
        let same = found.0.iter().all(|(path, digest)| {
            let line = format!("{}  {}", digest.hex(), path.display().to_string().escape_debug());
            lines.next() == Some(line.as_str())
        });
        Ok(same && lines.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_a_new_and_a_missing_file_are_noticed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let (tree, at) = (root.path().join("tree"), root.path().join("sums/x"));
        fs::create_dir_all(tree.join("1_Pooling")).unwrap();
        fs::write(tree.join("model.onnx"), "model").unwrap();
        fs::write(tree.join("1_Pooling/config.json"), "{}").unwrap();
        Sums::of(&tree).unwrap().write(&at).unwrap();
        let text = fs::read_to_string(&at).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(Sums::hold(&at, &tree).unwrap());
        for (file, content) in [("model.onnx", "modem"), ("more.json", "x")] {
            let before = fs::read(tree.join(file)).ok();
            fs::write(tree.join(file), content).unwrap();
            assert!(!Sums::hold(&at, &tree).unwrap(), "{file}");
            match before {
                Some(before) => fs::write(tree.join(file), before).unwrap(),
                None => fs::remove_file(tree.join(file)).unwrap(),
            }
            assert!(Sums::hold(&at, &tree).unwrap());
        }
        fs::remove_file(tree.join("1_Pooling/config.json")).unwrap();
        assert!(!Sums::hold(&at, &tree).unwrap());
        assert!(Sums::hold(&root.path().join("nowhere"), &tree).is_err());
    }
}
