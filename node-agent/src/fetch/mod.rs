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
mod sums;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use afterglow_crds::model::Source;

pub use failure::{Failure, Retry};

use digest::Digest;
pub(crate) use location::shown;

use location::Location;
use open::Opener;
pub use store::{Disk, Usage};
use store::{Pin, Store};
use sums::Sums;
use unpack::Unpacked;

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
    /// Trees that were compared with their sums since this process began.
    compared: Mutex<BTreeSet<Digest>>,
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
    /// Opens the cache, if it can be; otherwise each fetch tries again and says why not. Blocks.
    pub fn open(options: Options) -> Result<Self, String> {
        let store = Store::new(&options.cache, options.cache_size);
        if let Err(error) = store.open() {
            tracing::error!(%error, cache = %options.cache.display(), "the model cache cannot be used; tried again by itself");
        }
        let opener =
            Opener::new(options.store.clone()).map_err(|e| format!("the HTTP client cannot be used: {e}"))?;
        Ok(Self(Arc::new(Inner {
            options,
            opener,
            store,
            turns: Mutex::default(),
            compared: Mutex::default(),
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
        let mine = self.0.turn(&digest).await;
        let outcome = loop {
            match self.0.fetch(&digest, &location, &mine).await {
                // The disk is smaller than what the cache may hold; each time round there is one model less.
                Err(failure) if failure.reason == "CacheFull" && self.0.store.make_way(&digest) => {
                    tracing::info!(%digest, "{failure}; tried again with more room");
                }
                outcome => break outcome,
            }
        };
        self.0.tell(&digest, None);
        outcome
    }

    /// Whether the model's files in the cache are still what was unpacked; where they are not, the next fetch brings them anew.
    pub async fn whole(&self, source: &Source) -> bool {
        let Ok(digest) = source.digest.parse() else {
            return true;
        };
        let _turn = self.0.turn(&digest).await;
        self.0.forget(&digest);
        self.0.compare(&digest).await
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
    async fn turn(&self, digest: &Digest) -> Turn {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody else holds those that are in nobody's hands.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(digest.clone()).or_default())
        };
        Arc::new(turn.lock_owned().await)
    }

    fn forget(&self, digest: &Digest) {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        compared.remove(digest);
    }

    /// Whether the tree is what was unpacked, looked at once in this process: disks forget, and others may write to them.
    async fn compare(&self, digest: &Digest) -> bool {
        let compared = || self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        if compared().contains(digest) {
            return true;
        }
        let (sums, tree) = (self.store.sums(digest), self.store.tree(digest));
        let same = tokio::task::spawn_blocking(move || Sums::hold(&sums, &tree)).await;
        let same = match same {
            Ok(Ok(same)) => same,
            Ok(Err(error)) => {
                tracing::info!(%digest, %error, "a model in the cache cannot be compared with what was unpacked");
                false
            }
            Err(_) => false,
        };
        if same {
            compared().insert(digest.clone());
        }
        same
    }

    async fn fetch(&self, digest: &Digest, location: &Location, turn: &Turn) -> Result<Tree, Failure> {
        let store = self.store.clone();
        let opened = tokio::task::spawn_blocking(move || store.open()).await;
        let opened = opened.unwrap_or_else(|e| Err(std::io::Error::other(e)));
        opened.map_err(|e| Failure::cache("opening it", &e))?;
        let tree = self.store.tree(digest);
        if let Some(pin) = self.store.pin(&tree) {
            if self.compare(digest).await {
                return Ok(Tree {
                    path: tree,
                    _pin: pin,
                });
            }
            tracing::warn!(%digest, "a model in the cache is not what was unpacked; it is fetched again");
        }
        self.forget(digest);
        self.store.discard(&tree)?;
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
        // Written just now, from bytes that were compared.
        self.compared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(digest.clone());
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
            let unpacked = unpack::unpack(&blob, &digest, &name, &new, |bytes| store.grow(&new, bytes));
            let noted = unpacked.and_then(|Unpacked { bytes, sums }| {
                let written = sums.write(&store.sums(&digest));
                written.map_err(|e| Failure::cache("writing down what a model's files are", &e))?;
                Ok(bytes)
            });
            match noted {
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
