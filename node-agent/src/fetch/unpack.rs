//! From a package to a folder. The package has the right digest and is still not trusted: whoever wrote the digest may
//! have packed it.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use flate2::read::GzDecoder;
use tar::EntryType;

use sha2::{Digest as _, Sha256};

use super::Failure;
use super::digest::Digest;
use super::sums::Sums;

/// Files and folders of a package.
const ENTRIES: usize = 10_000;
/// How much larger than the package its content may be.
const RATIO: u64 = 100;
/// … though no package is too small for a small model.
const ALWAYS: u64 = 16 << 20;
/// Bytes between two files' contents: headers and long names.
const HEADERS: u64 = 1 << 20;

/// What was unpacked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// How many bytes lie there.
    pub(super) bytes: u64,
    /// What they are.
    pub(super) sums: Sums,
}

/// Unpacks `blob` (which has `digest` and is called `name` at its source) into the new folder `to`. `room` is asked before
/// bytes are written, with the sum so far.
pub(super) fn unpack(
    blob: &Path,
    digest: &Digest,
    name: &str,
    to: &Path,
    mut room: impl FnMut(u64) -> Result<(), Failure>,
) -> Result<Unpacked, Failure> {
    let ours = |doing: &str| {
        let doing = doing.to_owned();
        move |e: io::Error| Failure::cache(&doing, &e)
    };
    let mut file = File::open(blob).map_err(ours("reading a package"))?;
    let size = file.metadata().map_err(ours("reading a package"))?.len();
    let mut head = Vec::with_capacity(512);
    (&mut file)
        .take(512)
        .read_to_end(&mut head)
        .map_err(ours("reading a package"))?;
    io::Seek::rewind(&mut file).map_err(ours("reading a package"))?;
    fs::create_dir(to).map_err(ours("making a folder"))?;
    let mut sink = Sink {
        folder: to,
        most: size.saturating_mul(RATIO).max(ALWAYS),
        written: 0,
        sums: Sums::default(),
        room: &mut room,
    };
    let extension = |end: &str| name.to_ascii_lowercase().ends_with(end);
    if head.starts_with(&[0x1f, 0x8b]) {
        archive(
            GzDecoder::new(io::BufReader::with_capacity(256 << 10, file)),
            &mut sink,
        )?;
    } else if head.get(257..262) == Some(b"ustar".as_slice()) || extension(".tar") {
        archive(io::BufReader::with_capacity(256 << 10, file), &mut sink)?;
    } else {
        // The package is the model: a second name for it, and the first one goes when the folder is whole.
        fs::hard_link(blob, to.join("model.onnx")).map_err(ours("making a model's folder"))?;
        sync(to).map_err(ours("writing a model's folder"))?;
        sink.sums.insert("model.onnx".into(), digest.clone());
        return Ok(Unpacked {
            bytes: size,
            sums: sink.sums,
        });
    }
    let (bytes, sums) = (sink.written, sink.sums);
    if !to.join("model.onnx").is_file() {
        return Err(Failure::invalid(
            "the package has no model.onnx at its top; `afterglow pack FOLDER -o FILE` writes one from a folder with a model.onnx",
        ));
    }
    sync(to).map_err(ours("writing a model's folder"))?;
    Ok(Unpacked { bytes, sums })
}

struct Sink<'a> {
    folder: &'a Path,
    most: u64,
    written: u64,
    sums: Sums,
    room: &'a mut dyn FnMut(u64) -> Result<(), Failure>,
}

impl Sink<'_> {
    fn file(&mut self, path: &Path, content: &mut impl Read) -> Result<(), Failure> {
        let at = self.folder.join(path);
        if let Some(parent) = at.parent() {
            fs::create_dir_all(parent).map_err(|e| twice(path, &e))?;
        }
        // Never over something that is there, and never through a link: there are none.
        let mut file = File::create_new(&at).map_err(|e| twice(path, &e))?;
        let mut buffer = vec![0; 256 << 10];
        let mut hash = Sha256::new();
        loop {
            let n = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(&error)),
            };
            self.written += n as u64;
            if self.written > self.most {
                return Err(Failure::invalid(format!(
                    "the package unpacks to more than {} bytes, {RATIO} times its own size; that is no model",
                    self.most
                )));
            }
            (self.room)(self.written)?;
            file.write_all(&buffer[..n])
                .map_err(|e| Failure::cache("unpacking a model", &e))?;
            hash.update(&buffer[..n]);
        }
        self.sums.insert(path.to_owned(), Digest::of(hash));
        file.sync_all()
            .map_err(|e| Failure::cache("unpacking a model", &e))
    }
}

fn archive(reader: impl Read, sink: &mut Sink<'_>) -> Result<(), Failure> {
    let allowance = Rc::new(Cell::new(HEADERS));
    let mut archive = tar::Archive::new(Metered {
        inner: reader,
        left: Rc::clone(&allowance),
    });
    let mut entries = archive.entries().map_err(|e| broken(&e))?;
    let mut count = 0;
    loop {
        allowance.set(HEADERS);
        let Some(entry) = entries.next() else {
            return Ok(());
        };
        let mut entry = entry.map_err(|e| broken(&e))?;
        count += 1;
        if count > ENTRIES {
            return Err(Failure::invalid(format!(
                "the package holds more than {ENTRIES} files and folders"
            )));
        }
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = entry.path().ok().and_then(|path| inside(&path)).ok_or_else(|| {
            Failure::invalid(format!(
                "the package's entry `{}` leads out of its folder",
                shown.escape_debug()
            ))
        })?;
        match kind {
            // "./" itself.
            EntryType::Directory if path.as_os_str().is_empty() => {}
            EntryType::Directory => {
                fs::create_dir_all(sink.folder.join(&path)).map_err(|e| twice(&path, &e))?;
            }
            EntryType::Regular if !path.as_os_str().is_empty() => {
                // Content, and the padding behind it.
                allowance.set(entry.size().saturating_add(1024));
                sink.file(&path, &mut entry)?;
            }
            _ => {
                return Err(Failure::invalid(format!(
                    "the package's entry `{}` is neither a plain file nor a folder; links and devices are not unpacked",
                    shown.escape_debug()
                )));
            }
        }
    }
}

/// A path that goes only down; "./" in front is how tar writes it.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (clean.components().count() <= 32).then_some(clean)
}

fn broken(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::StorageFull {
        return Failure::cache("unpacking a model", error);
    }
    Failure::invalid(format!(
        "the package cannot be unpacked: {error}; pack it anew (`afterglow pack FOLDER -o FILE`)"
    ))
}

fn twice(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
            Failure::invalid(format!(
                "the package's entry `{}` cannot be unpacked: {error}",
                path.display()
            ))
        }
        _ => Failure::cache("unpacking a model", error),
    }
}

/// Bounds what the archive's own parser reads: it keeps long names in memory, however long.
struct Metered<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other("its headers are larger than 1 MiB"));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.inner.read(&mut buffer[..most])?;
        self.left.set(left - n as u64);
        Ok(n)
    }
}

/// Every folder's own entries are on disk before the whole is given its name.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}
