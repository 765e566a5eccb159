//! The cache on disk: what it holds, what it may hold, and who uses what.
//!
//! Three folders: `partial/` holds downloads that are not finished, `blobs/sha256/` packages whose digest is verified and
//! which are about to be unpacked, `trees/sha256/` unpacked models; beside them `sums/sha256/`, what each file of a tree is. A
//! thing appears under its name in `blobs` or `trees` by a rename after everything in it is on disk, so what has such a name
//! was whole, whenever the process was killed.
//!
//! A disk that cannot be used is no reason to end: each use tries again, and says why not.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::Failure;
use super::digest::Digest;

/// The cache; clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    budget: u64,
    items: Mutex<BTreeMap<PathBuf, Item>>,
    /// Whether the disk could be read and what lies there is among the items.
    read: Mutex<bool>,
}

/// Something in the cache, by its path.
#[derive(Debug)]
struct Item {
    bytes: u64,
    used: SystemTime,
    /// Who needs it now; it stays as long.
    pins: usize,
}

/// What the cache holds, and what it lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that it may hold.
    pub limit: u64,
    /// Bytes that somebody needs now.
    pub in_use: u64,
    /// Bytes that go when others need the room.
    pub evictable: u64,
    /// The file system; `None` where it does not tell.
    pub disk: Option<Disk>,
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that can still be written.
    pub free: u64,
    /// Bytes in all.
    pub size: u64,
}

const PARTIAL: &str = "partial";
const BLOBS: &str = "blobs/sha256";
const TREES: &str = "trees/sha256";
const SUMS: &str = "sums/sha256";

impl Store {
    /// The cache at `root`, which may hold `budget` bytes. Nothing is touched yet.
    pub(super) fn new(root: &Path, budget: u64) -> Self {
        Self(Arc::new(Inner {
            root: root.to_owned(),
            budget,
            items: Mutex::default(),
            read: Mutex::new(false),
        }))
    }

    /// Makes the folders and finds out what lies in them, unless that is done. What a killed process left half unpacked goes,
    /// and so does what cannot be read: it can be fetched again. Blocks.
    pub(super) fn open(&self) -> io::Result<()> {
        let mut read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
        if *read {
            return Ok(());
        }
        let mut items = BTreeMap::new();
        for folder in [PARTIAL, BLOBS, TREES] {
            let folder = self.0.root.join(folder);
            fs::create_dir_all(&folder)?;
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                let half = path.extension().is_some_and(|extension| extension == "new");
                let found = if half { Ok(None) } else { item(&path).map(Some) };
                match found {
                    Ok(Some(item)) => {
                        items.insert(path, item);
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(%error, path = %path.display(), "in the model cache, cannot be read; removed");
                    }
                }
                if let Err(error) = remove(&path) {
                    tracing::warn!(%error, path = %path.display(), "in the model cache, cannot be removed");
                }
            }
        }
        self.tidy_sums()?;
        *self.lock() = items;
        *read = true;
        Ok(())
    }

    /// Sums of trees that are gone go too.
    fn tidy_sums(&self) -> io::Result<()> {
        let folder = self.0.root.join(SUMS);
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let tree = self.0.root.join(TREES).join(entry.file_name());
            if !tree.exists()
                && let Err(error) = remove(&entry.path())
            {
                tracing::debug!(%error, path = %entry.path().display(), "stays in the model cache");
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Item>> {
        self.0.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How full it is.
    pub(super) fn usage(&self) -> Usage {
        let disk = rustix::fs::statvfs(&self.0.root).ok().map(|system| Disk {
            free: system.f_bavail.saturating_mul(system.f_frsize),
            size: system.f_blocks.saturating_mul(system.f_frsize),
        });
        let items = self.lock();
        let bytes = |needed: bool| {
            let some = items.values().filter(|item| (item.pins > 0) == needed);
            some.map(|item| item.bytes).sum()
        };
        Usage {
            limit: self.0.budget,
            in_use: bytes(true),
            evictable: bytes(false),
            disk,
        }
    }

    /// Where a download that is not finished lies.
    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.0.root.join(PARTIAL).join(digest.hex())
    }

    /// Where a verified package lies.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.0.root.join(BLOBS).join(digest.hex())
    }

    /// Where an unpacked model lies.
    pub(super) fn tree(&self, digest: &Digest) -> PathBuf {
        self.0.root.join(TREES).join(digest.hex())
    }

    /// Where the sums of an unpacked model lie.
    pub(super) fn sums(&self, digest: &Digest) -> PathBuf {
        self.0.root.join(SUMS).join(digest.hex())
    }

    /// Keeps what is there at `path`; `None` if nothing is, any more.
    pub(super) fn pin(&self, path: &Path) -> Option<Pin> {
        let now = SystemTime::now();
        {
            let mut items = self.lock();
            let item = items.get_mut(path)?;
            if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                // Somebody has tidied up. Who has it pinned gets what comes anew.
                item.bytes = 0;
                if item.pins == 0 {
                    items.remove(path);
                }
                return None;
            }
            item.pins += 1;
            item.used = now;
        }
        // So that a restarted agent knows what was used last.
        if let Err(error) = File::open(path).and_then(|file| file.set_modified(now)) {
            tracing::debug!(%error, path = %path.display(), "the time of use is not kept");
        }
        Some(Pin {
            store: self.clone(),
            path: path.to_owned(),
        })
    }

    /// Begins something at `path` that will grow; it is kept as long as the pin lives.
    pub(super) fn begin(&self, path: &Path) -> Pin {
        let mut items = self.lock();
        let item = items.entry(path.to_owned()).or_insert_with(|| Item {
            bytes: 0,
            used: SystemTime::now(),
            pins: 0,
        });
        item.pins += 1;
        drop(items);
        Pin {
            store: self.clone(),
            path: path.to_owned(),
        }
    }

    /// Makes room for `path` to hold `bytes`: what was used least recently and by nobody now goes first.
    pub(super) fn grow(&self, path: &Path, bytes: u64) -> Result<(), Failure> {
        let budget = self.0.budget;
        if bytes > budget {
            return Err(Failure::new(
                "SourceTooLarge",
                super::Retry::Slowly,
                format!(
                    "the model has {bytes} bytes or more, the node's model cache may hold {budget} in all; give the agents \
                     more (spec.agent.cache.size of the InferenceCluster)"
                ),
            ));
        }
        loop {
            let victim = {
                let mut items = self.lock();
                let others: u64 = items
                    .iter()
                    .filter(|(other, _)| *other != path)
                    .map(|(_, item)| item.bytes)
                    .sum();
                if others.saturating_add(bytes) <= budget {
                    if let Some(item) = items.get_mut(path) {
                        item.bytes = bytes;
                    }
                    return Ok(());
                }
                let Some(victim) = unused(&items, &[path]) else {
                    return Err(Failure::new(
                        "CacheFull",
                        super::Retry::Soon,
                        format!(
                            "the node's model cache holds {budget} bytes, models in use take {others}, and this one needs \
                             {bytes}; give the agents more (spec.agent.cache.size of the InferenceCluster) or remove a model"
                        ),
                    ));
                };
                victim
            };
            self.evict(&victim)?;
        }
    }

    /// Makes room on a disk that is full before the cache is: what was used least recently and by nobody now goes, but for
    /// what is of `digest`. Answers whether there was something.
    pub(super) fn make_way(&self, digest: &Digest) -> bool {
        let own = [self.partial(digest), self.blob(digest), self.tree(digest)];
        let own: Vec<&Path> = own.iter().map(PathBuf::as_path).collect();
        let victim = unused(&self.lock(), &own);
        victim.is_some_and(|victim| self.evict(&victim).is_ok())
    }

    /// Removes something that nobody needs. What has been pinned meanwhile stays.
    fn evict(&self, victim: &Path) -> Result<(), Failure> {
        let item = {
            let mut items = self.lock();
            let free = items.get(victim).is_some_and(|item| item.pins == 0);
            if free { items.remove(victim) } else { None }
        };
        let Some(item) = item else { return Ok(()) };
        tracing::info!(path = %victim.display(), "evicted from the model cache");
        remove(victim).map_err(|error| {
            // Its bytes are still there.
            self.lock().entry(victim.to_owned()).or_insert(item);
            Failure::cache("evicting a model", &error)
        })
    }

    /// Says that the bytes at `path` are now `bytes`, those at `from` among them where the two share a file.
    pub(super) fn grow_in_place(&self, path: &Path, from: &Path, bytes: u64) {
        let mut items = self.lock();
        let shared = items.get(path).is_some_and(|item| item.bytes < bytes);
        if let Some(from) = items.get_mut(from).filter(|_| shared) {
            from.bytes = 0;
        }
        if let Some(item) = items.get_mut(path) {
            item.bytes = bytes;
        }
    }

    /// Gives what lies at `from` the name `to`: from now on it is whole.
    pub(super) fn commit(&self, from: &Path, to: &Path) -> Result<(), Failure> {
        let failed = |e: io::Error| Failure::cache("giving a finished file its name", &e);
        fs::rename(from, to).map_err(failed)?;
        if let Some(parent) = to.parent() {
            File::open(parent)
                .and_then(|folder| folder.sync_all())
                .map_err(failed)?;
        }
        let mut items = self.lock();
        if let Some(item) = items.get_mut(from) {
            let bytes = std::mem::take(&mut item.bytes);
            // Somebody may hold a pin on the new name already.
            let whole = items.entry(to.to_owned()).or_insert_with(|| Item {
                bytes: 0,
                used: SystemTime::now(),
                pins: 0,
            });
            whole.bytes = bytes;
        }
        Ok(())
    }

    /// Removes what lies at `path`.
    pub(super) fn discard(&self, path: &Path) -> Result<(), Failure> {
        remove(path).map_err(|e| Failure::cache("removing a file", &e))?;
        let mut items = self.lock();
        match items.get_mut(path) {
            // Somebody holds a pin and may begin anew.
            Some(item) if item.pins > 0 => item.bytes = 0,
            _ => {
                items.remove(path);
            }
        }
        Ok(())
    }
}

/// Keeps something in the cache.
#[derive(Debug)]
pub(super) struct Pin {
    store: Store,
    path: PathBuf,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut items = self.store.lock();
        let gone = items.get_mut(&self.path).is_some_and(|item| {
            item.pins -= 1;
            item.used = SystemTime::now();
            item.pins == 0 && item.bytes == 0
        });
        if gone {
            items.remove(&self.path);
        }
    }
}

/// What was used least recently of what nobody needs now.
fn unused(items: &BTreeMap<PathBuf, Item>, but: &[&Path]) -> Option<PathBuf> {
    items
        .iter()
        .filter(|(path, item)| item.pins == 0 && !but.contains(&path.as_path()))
        .min_by_key(|(_, item)| item.used)
        .map(|(path, _)| path.clone())
}

fn item(path: &Path) -> io::Result<Item> {
    Ok(Item {
        bytes: size(path)?,
        used: fs::symlink_metadata(path)?.modified()?,
        pins: 0,
    })
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Bytes below `path`.
fn size(path: &Path) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        sum += size(&entry?.path())?;
    }
    Ok(sum)
}
