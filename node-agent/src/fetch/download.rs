//! One download: from where it is to a file whose digest is right.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

use super::digest::Digest;
use super::location::Location;
use super::open::Opened;
use super::{Failure, Inner, Progress, Retry};

/// Breaks in a row, without a byte in between, after which the source counts as unreachable for now.
const BREAKS: u32 = 4;
/// Before the first new try; doubled each time.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 500 });
/// Room is asked for in steps of this where the source does not tell its size.
const STEP: u64 = 16 << 20;

/// Whether a file has its digest.
pub(super) async fn intact(path: &Path, digest: &Digest) -> bool {
    let path = path.to_owned();
    let found = tokio::task::spawn_blocking(move || Digest::read(std::fs::File::open(path)?)).await;
    matches!(found, Ok(Ok(found)) if found == *digest)
}

impl Inner {
    /// Downloads to `blobs/`.
    pub(super) async fn download(&self, digest: &Digest, location: &Location) -> Result<(), Failure> {
        let resumed = fs::metadata(self.store.partial(digest)).await.is_ok();
        match self.attempt(digest, location).await {
            // What lay here may be of another version of the file, or half written when the machine went down.
            Err(failure) if resumed && failure.reason == "DigestMismatch" => {
                tracing::info!(%digest, "a download that was resumed has a wrong digest; from the start");
                self.attempt(digest, location).await
            }
            outcome => outcome,
        }
    }

    async fn attempt(&self, digest: &Digest, location: &Location) -> Result<(), Failure> {
        let path = self.store.partial(digest);
        let _kept = self.store.begin(&path);
        let mut partial = Partial::open(path.clone()).await.map_err(|e| disk(&e))?;
        let mut breaks = 0;
        loop {
            let had = partial.bytes;
            match self.stream(digest, location, &mut partial).await {
                Ok(()) => break,
                Err(Broken::Failed(failure)) if failure.reason != "SourceUnreachable" || breaks >= BREAKS => {
                    // What came stays for the next try; a source that says nothing of its size ends here.
                    partial.file.sync_all().await.map_err(|e| disk(&e))?;
                    return Err(failure);
                }
                Err(Broken::Failed(_)) => {}
                Err(Broken::Cut(why)) if breaks >= BREAKS => {
                    return Err(Failure::unreachable(format!(
                        "the download breaks off after {} bytes: {why}; tried again by itself",
                        partial.bytes
                    )));
                }
                Err(Broken::Cut(why)) => {
                    tracing::info!(%digest, bytes = partial.bytes, why, "the download broke off; going on");
                }
            }
            breaks = if partial.bytes > had { 1 } else { breaks + 1 };
            tokio::time::sleep(PAUSE * 2u32.pow(breaks.min(BREAKS) - 1)).await;
        }
        let found = Digest::of(partial.hash.clone());
        if found != *digest {
            self.store.discard(&path)?;
            return Err(Failure::new(
                "DigestMismatch",
                Retry::Slowly,
                format!(
                    "what lies at the source has the digest {found}, the model's owner wrote {digest}; one of the two is \
                     wrong (source.digest); nothing of it was read"
                ),
            ));
        }
        partial.file.sync_all().await.map_err(|e| disk(&e))?;
        // A write of a download that was given up may have come in between: the file is not what was hashed.
        let length = partial.file.metadata().await.map_err(|e| disk(&e))?.len();
        if length != partial.bytes {
            self.store.discard(&path)?;
            return Err(Failure::unreachable(
                "two downloads of one file met; tried again by itself",
            ));
        }
        let _ = fs::remove_file(version_file(&path)).await;
        self.store.commit(&path, &self.store.blob(digest))
    }

    /// One connection.
    async fn stream(
        &self,
        digest: &Digest,
        location: &Location,
        partial: &mut Partial,
    ) -> Result<(), Broken> {
        let version = fs::read_to_string(version_file(&partial.path)).await.ok();
        let opened = self
            .opener
            .open(location, partial.bytes, version.as_deref())
            .await;
        let Opened {
            offset,
            total,
            version,
            mut bytes,
        } = opened.map_err(Broken::Failed)?;
        if offset != partial.bytes {
            partial.restart().await.map_err(|e| Broken::Failed(disk(&e)))?;
            if offset != 0 {
                return Err(Broken::Cut(format!(
                    "asked for the start, the source sends from byte {offset}"
                )));
            }
        }
        if let Some(version) = version {
            // Without it a resumed download is checked by its digest alone.
            let _ = fs::write(version_file(&partial.path), version).await;
        }
        let room = |bytes: u64| self.store.grow(&partial.path, bytes).map_err(Broken::Failed);
        let mut granted = total.unwrap_or(0).max(partial.bytes);
        room(granted)?;
        self.tell(
            digest,
            Some(Progress {
                bytes: partial.bytes,
                total,
            }),
        );
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk.map_err(Broken::Cut)?;
            let next = partial.bytes + chunk.len() as u64;
            if total.is_some_and(|total| next > total) {
                return Err(Broken::Cut("more bytes come than were announced".to_owned()));
            }
            if next > granted {
                granted = next + STEP;
                // The last step may be smaller.
                if room(granted).is_err() {
                    granted = next;
                    room(granted)?;
                }
            }
            partial
                .file
                .write_all(&chunk)
                .await
                .map_err(|e| Broken::Failed(disk(&e)))?;
            partial.hash.update(&chunk);
            partial.bytes = next;
            self.tell(digest, Some(Progress { bytes: next, total }));
        }
        partial.file.flush().await.map_err(|e| Broken::Failed(disk(&e)))?;
        room(partial.bytes)?;
        match total {
            Some(total) if partial.bytes < total => {
                Err(Broken::Cut(format!("{} of {total} bytes came", partial.bytes)))
            }
            _ => Ok(()),
        }
    }
}

enum Broken {
    /// The connection ended too early.
    Cut(String),
    /// The source or the cache refuses.
    Failed(Failure),
}

/// A file that grows, and the hash of what is in it.
struct Partial {
    path: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Partial {
    async fn open(path: PathBuf) -> std::io::Result<Self> {
        let at = path.clone();
        let read = tokio::task::spawn_blocking(move || -> std::io::Result<(Sha256, u64)> {
            let mut hash = Sha256::new();
            let bytes = match std::fs::File::open(at) {
                Ok(mut file) => std::io::copy(&mut file, &mut hash)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            };
            Ok((hash, bytes))
        });
        let (hash, bytes) = read.await.map_err(std::io::Error::other)??;
        let file = OpenOptions::new().create(true).append(true).open(&path).await?;
        Ok(Self {
            path,
            file,
            hash,
            bytes,
        })
    }

    async fn restart(&mut self) -> std::io::Result<()> {
        self.file.set_len(0).await?;
        self.hash = Sha256::new();
        self.bytes = 0;
        Ok(())
    }
}

/// What the source called the version of the file that a partial download is of.
fn version_file(partial: &Path) -> PathBuf {
    partial.with_extension("version")
}

fn disk(error: &std::io::Error) -> Failure {
    Failure::cache("writing a download", error)
}
