//! What identifies a model version's content.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Settings;

/// SHA-256 over the settings and over every file of the version's folder with its relative path. A file stands for
/// itself.
pub(crate) fn digest(version: &Path, settings: &Settings) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(&serde_json::to_vec(settings)?);
    for path in files(version)? {
        part(
            path.strip_prefix(version)
                .unwrap_or(&path)
                .as_os_str()
                .as_encoded_bytes(),
        );
        part(&file(&path)?);
    }
    Ok(format!("sha256:{}", hex(&hash.finalize())))
}

fn file(path: &Path) -> io::Result<Vec<u8>> {
    let mut hash = Sha256::new();
    io::copy(&mut fs::File::open(path)?, &mut hash)?;
    Ok(hash.finalize().to_vec())
}

/// All files below `folder`, sorted. Links are followed, for model stores are full of them; circles end at a depth.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    const DEEPEST: usize = 8;
    if folder.is_file() {
        return Ok(vec![folder.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let metadata = fs::metadata(&path)?;
            if metadata.is_dir() && depth < DEEPEST {
                folders.push((path, depth + 1));
            } else if metadata.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_follows_content_names_and_settings_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let settings = Settings::default();
        write("model.onnx", "m");
        let first = digest(folder.path(), &settings).unwrap();
        assert!(first.starts_with("sha256:") && first.len() == 7 + 64, "{first}");
        write("model.onnx", "m");
        assert_eq!(digest(folder.path(), &settings).unwrap(), first, "written again");
        write("model.onnx", "n");
        assert_ne!(digest(folder.path(), &settings).unwrap(), first, "other content");
        write("model.onnx", "m");
        write("tokenizer.json", "");
        assert_ne!(digest(folder.path(), &settings).unwrap(), first, "another file");
        fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
        let mut other = settings.clone();
        other.batching.max_queue = 1;
        assert_ne!(digest(folder.path(), &other).unwrap(), first, "other settings");
        assert_eq!(digest(folder.path(), &settings).unwrap(), first);
    }
}
