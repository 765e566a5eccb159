//! Packages: a model with what belongs to it in one file, the same bytes every time.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};

use crate::hint;

/// Folders within folders; models have one or two.
const DEEPEST: usize = 16;

/// What goes into a package: names in it and files, in the order of the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) files: Vec<(String, PathBuf)>,
}

/// A package that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    /// `sha256:…`.
    pub(crate) digest: String,
    pub(crate) bytes: u64,
}

/// What of `folder` goes into a package. The folder is a version's (`model.onnx` is in it; `model.yaml` is there or one above)
/// or a model's (`model.yaml` and folders named by numbers, of which the highest is taken).
pub(crate) fn contents(folder: &Path) -> Result<Contents> {
    let version = if folder.join("model.onnx").is_file() {
        folder.to_owned()
    } else {
        highest(folder)?
    };
    let mut files = Vec::new();
    walk(&version, "", 0, &mut files)?;
    if !files.iter().any(|(name, _)| name == "model.yaml") {
        // `DIR/.` has no parent by name, its absolute path has.
        let whole = fs::canonicalize(&version).with_context(|| format!("finding {}", version.display()))?;
        let above = whole.parent().map(|parent| parent.join("model.yaml"));
        if let Some(settings) = above.filter(|path| path.is_file()) {
            files.push(("model.yaml".to_owned(), settings));
        }
    }
    files.sort();
    Ok(Contents { files })
}

fn highest(folder: &Path) -> Result<PathBuf> {
    let versions = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let newest = versions
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("model.onnx").is_file())
        .filter_map(|entry| {
            let number: u64 = entry.file_name().to_str()?.parse().ok()?;
            Some((number, entry.path()))
        })
        .max();
    newest.map(|(_, path)| path).ok_or_else(|| {
        hint::error(
            format!("{} holds no model", folder.display()),
            "give a folder with model.onnx, or one with NUMBER/model.onnx",
        )
    })
}

fn walk(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<(String, PathBuf)>) -> Result<()> {
    anyhow::ensure!(
        depth < DEEPEST,
        "{}: more than {DEEPEST} folders within each other",
        folder.display()
    );
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
        let path = entry.path();
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            anyhow::bail!("{}: its name is not UTF-8", path.display());
        };
        if name.starts_with('.') {
            continue;
        }
        let inside = format!("{prefix}{name}");
        if path.is_dir() {
            walk(&path, &format!("{inside}/"), depth + 1, files)?;
        } else {
            files.push((inside, path));
        }
    }
    Ok(())
}

/// Writes a package; a file that ends in `gz` is compressed. A file of that name is there whole, or as it was before.
pub(crate) fn write(contents: &Contents, file: &Path) -> Result<Package> {
    let extension = file.extension().unwrap_or_default();
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = (|| {
        let out = File::create(&partial)?;
        let out = Hashed {
            out: BufWriter::with_capacity(1 << 20, out),
            hash: Sha256::new(),
            bytes: 0,
        };
        let mut out = if extension == "gz" || extension == "tgz" {
            let gzip = GzBuilder::new().mtime(0).write(out, Compression::default());
            append(contents, gzip)?.finish()?
        } else {
            append(contents, out)?
        };
        out.flush()?;
        fs::rename(&partial, file)?;
        Ok(Package {
            digest: format!("sha256:{}", hex(&out.hash.finalize())),
            bytes: out.bytes,
        })
    })();
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written
        .map_err(|error: io::Error| anyhow::Error::from(error).context(format!("writing {}", file.display())))
}

fn append<W: Write>(contents: &Contents, out: W) -> io::Result<W> {
    let mut tar = tar::Builder::new(out);
    for (name, path) in &contents.files {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(named)?;
        let mut header = tar::Header::new_gnu();
        // Nothing of the machine that packs goes in: who, when and with which rights do not change a model.
        header.set_size(file.metadata().map_err(named)?.len());
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, name, file).map_err(named)?;
    }
    tar.into_inner()
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// A writer that knows what it has written.
struct Hashed<W> {
    out: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.out.write(bytes)?;
        self.hash.update(&bytes[..taken]);
        self.bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn model() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("model.yaml", "task: embedding"),
            ("1/model.onnx", "old"),
            ("2/model.onnx", "new"),
            ("2/tokenizer.json", "{}"),
            ("2/1_Pooling/config.json", "{}"),
            ("2/.hidden", "x"),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn names(file: &Path) -> Vec<(String, u32, u64, String)> {
        let mut archive = tar::Archive::new(File::open(file).unwrap());
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let header = entry.header();
                let (mode, mtime) = (header.mode().unwrap(), header.mtime().unwrap());
                let name = entry.path().unwrap().display().to_string();
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                (name, mode, mtime, text)
            })
            .collect()
    }

    #[test]
    fn a_package_is_the_newest_version_with_its_settings_and_always_the_same_bytes() {
        let folder = model();
        let (first, second) = (folder.path().join("a.tar"), folder.path().join("b.tar"));
        let one = write(&contents(folder.path()).unwrap(), &first).unwrap();
        // Touched and from the version's folder: the same.
        fs::write(folder.path().join("2/model.onnx"), "new").unwrap();
        let two = write(&contents(&folder.path().join("2")).unwrap(), &second).unwrap();
        assert_eq!(one, two);
        assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
        assert_eq!(one.bytes, fs::metadata(&first).unwrap().len());
        let entry = |name: &str, text: &str| (name.to_owned(), 0o644, 0, text.to_owned());
        assert_eq!(
            names(&first),
            [
                entry("1_Pooling/config.json", "{}"),
                entry("model.onnx", "new"),
                entry("model.yaml", "task: embedding"),
                entry("tokenizer.json", "{}"),
            ]
        );
    }

    #[test]
    fn a_compressed_package_is_the_same_every_time_too() {
        let folder = model();
        let contents = contents(folder.path()).unwrap();
        let write = |name: &str| write(&contents, &folder.path().join(name)).unwrap();
        assert_eq!(write("a.tar.gz"), write("b.tgz"));
        assert_ne!(write("a.tar.gz").digest, write("a.tar").digest);
    }

    #[test]
    fn a_folder_without_a_model_is_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let error = contents(folder.path()).unwrap_err();
        assert!(hint::render(&error).contains("model.onnx"), "{error}");
    }
}
