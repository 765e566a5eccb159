//! Brings models here: from a web server, an object store, a volume or a folder of the node into a cache that is
//! addressed by content.
//!
//! Nothing reads a package before its SHA-256 is what the model's owner wrote. One download a digest, however many
//! replicas wait for it; a download that breaks goes on where it was, also after the agent was killed.

mod digest;
mod download;
mod failure;
mod location;
mod open;
mod store;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use afterglow_crds::model::Source;

pub use failure::{Failure, Retry};

use digest::Digest;
use location::Location;
use open::Opener;
pub use store::{Disk, Usage};
use store::{Pin, Store};

/// What a fetcher is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cache's folder.
    pub cache: PathBuf,
    /// Bytes that the cache may hold.
    pub cache_size: u64,
    /// The folder that `file://` names and where it is mounted here; `None`: no such sources.
    pub model_path: Option<(PathBuf, PathBuf)>,
    /// Where the volumes of `pvc://NAME/…` are mounted: NAME is a folder in it.
    pub volumes: PathBuf,
    /// The object store of `s3://`.
    pub store: ObjectStore,
}

impl Options {
    /// Only web sources, with a cache of `cache_size` bytes in `cache`.
    pub fn new(cache: PathBuf, cache_size: u64) -> Self {
        Self {
            cache,
            cache_size,
            model_path: None,
            volumes: "/models/volumes".into(),
            store: ObjectStore::default(),
        }
    }
}

/// The object store of `s3://` sources.
#[derive(Clone)]
pub struct ObjectStore {
    /// Its address; Amazon's own if absent.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: String,
    /// Key id and secret key; without them only public buckets answer.
    pub keys: Option<(String, String)>,
}

impl Default for ObjectStore {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: "us-east-1".to_owned(),
            keys: None,
        }
    }
}

impl ObjectStore {
    /// With the keys of `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, where both are set.
    pub fn from_environment(endpoint: Option<String>, region: String) -> Self {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            endpoint,
            region,
            keys: set("AWS_ACCESS_KEY_ID").zip(set("AWS_SECRET_ACCESS_KEY")),
        }
    }
}

impl std::fmt::Debug for ObjectStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectStore")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("keys", &self.keys.as_ref().map(|(id, _)| id))
            .finish()
    }
}

/// Fetches models; clones are the same.
#[derive(Clone)]
pub struct Fetcher(Arc<Inner>);

struct Inner {
    options: Options,
    opener: Opener,
    store: Store,
    /// One at a time a digest.
    turns: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    progress: Mutex<BTreeMap<Digest, Progress>>,
}

/// The right to work on a digest.
type Turn = Arc<tokio::sync::OwnedMutexGuard<()>>;

/// How far a download is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes here.
    pub bytes: u64,
    /// Bytes in all, where the source tells.
    pub total: Option<u64>,
}

/// A model's folder in the cache. It stays there as long as this lives; nobody writes into it.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    _pin: Pin,
}

impl Tree {
    /// The folder, with a `model.onnx` in it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Fetcher {
    /// Opens the cache. Blocks.
    pub fn open(options: Options) -> Result<Self, String> {
        let store = Store::open(&options.cache, options.cache_size).map_err(|e| {
            format!(
                "the model cache `{}` cannot be used: {e}",
                options.cache.display()
            )
        })?;
        let opener =
            Opener::new(options.store.clone()).map_err(|e| format!("the HTTP client cannot be used: {e}"))?;
        Ok(Self(Arc::new(Inner {
            options,
            opener,
            store,
            turns: Mutex::default(),
            progress: Mutex::default(),
        })))
    }

    /// The model, fetched unless it is here. Dropping the future stops the download; what came stays for the next.
    pub async fn fetch(&self, source: &Source) -> Result<Tree, Failure> {
        let digest: Digest = source
            .digest
            .parse()
            .map_err(|e| Failure::invalid(format!("source.digest: {e}")))?;
        let location = Location::parse(&source.uri, &self.0.options)?;
        let turn = {
            let mut turns = self.0.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody else holds those that are in nobody's hands.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(digest.clone()).or_default())
        };
        let mine = Arc::new(turn.lock_owned().await);
        let outcome = self.0.fetch(&digest, &location, &mine).await;
        self.0.tell(&digest, None);
        outcome
    }

    /// How far the download of `source` is; `None` where there is none under way.
    pub fn progress(&self, source: &Source) -> Option<Progress> {
        let digest = source.digest.parse().ok()?;
        let progress = self.0.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.get(&digest).copied()
    }

    /// How full the cache and its disk are.
    pub fn usage(&self) -> Usage {
        self.0.store.usage()
    }
}

impl Inner {
    async fn fetch(&self, digest: &Digest, location: &Location, turn: &Turn) -> Result<Tree, Failure> {
        let tree = self.store.tree(digest);
        if let Some(pin) = self.store.pin(&tree) {
            return Ok(Tree {
                path: tree,
                _pin: pin,
            });
        }
        let blob = self.store.blob(digest);
        let _kept = match self.store.pin(&blob) {
            // A blob that was here before is read once more: disks forget, and others may write to them.
            Some(pin) if download::intact(&blob, digest).await => pin,
            found => {
                drop(found);
                self.store.discard(&blob)?;
                let pin = self.store.begin(&blob);
                self.download(digest, location).await?;
                pin
            }
        };
        self.unpack(digest, location, turn).await?;
        let pin = self.store.pin(&tree).ok_or_else(|| {
            Failure::new(
                "CacheFull",
                Retry::Soon,
                "the model was evicted from the node's cache as it came; tried again",
            )
        })?;
        // The folder has all of it.
        self.store.discard(&blob)?;
        Ok(Tree {
            path: tree,
            _pin: pin,
        })
    }

    async fn unpack(&self, digest: &Digest, location: &Location, turn: &Turn) -> Result<(), Failure> {
        let (store, digest, name) = (self.store.clone(), digest.clone(), location.file_name());
        let turn = Arc::clone(turn);
        let work = move || {
            // Nobody stops this thread when the replica is deleted; the next one must wait for it.
            let _turn = turn;
            let (blob, tree) = (store.blob(&digest), store.tree(&digest));
            let new = tree.with_extension("new");
            store.discard(&new)?;
            let _kept = store.begin(&new);
            let unpacked = unpack::unpack(&blob, &name, &new, |bytes| store.grow(&new, bytes));
            match unpacked {
                Ok(bytes) => {
                    store.grow_in_place(&new, &blob, bytes);
                    store.commit(&new, &tree)
                }
                Err(failure) => {
                    store.discard(&new)?;
                    Err(failure)
                }
            }
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|e| Err(Failure::invalid(format!("the package cannot be unpacked: {e}"))))
    }

    fn tell(&self, digest: &Digest, progress: Option<Progress>) {
        let mut all = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        match progress {
            Some(progress) => all.insert(digest.clone(), progress),
            None => all.remove(digest),
        };
    }
}
