//! Opens a source at an offset: one stream of bytes, whatever lies behind it.

use std::fmt::Write as _;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::{ClientOptions, GetOptions, GetRange, ObjectStore as _, RetryConfig};
use reqwest::header::{CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, StatusCode, Url, redirect};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::failure::chain;
use super::location::{Location, shown};
use super::{Failure, ObjectStore};

/// A connection that is not there by then will not come.
const CONNECT: Duration = Duration::from_secs(5);
/// A source that says nothing for so long is broken.
const IDLE: Duration = Duration::from_secs(30);
/// Hops that a web server may send us on.
const REDIRECTS: usize = 5;

/// A source that was opened.
pub(super) struct Opened {
    /// The first byte that comes: what was asked for, or 0 where the source cannot resume.
    pub(super) offset: u64,
    /// Bytes in all, where the source tells.
    pub(super) total: Option<u64>,
    /// What tells this version of the file from another.
    pub(super) version: Option<String>,
    /// The bytes from `offset`; an error is worth another try.
    pub(super) bytes: BoxStream<'static, Result<Bytes, String>>,
}

/// Opens sources.
pub(super) struct Opener {
    client: Client,
    store: ObjectStore,
}

impl Opener {
    pub(super) fn new(store: ObjectStore) -> Result<Self, String> {
        let client = Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(IDLE)
            .redirect(redirect::Policy::custom(follow))
            .referer(false)
            .user_agent(concat!("afterglow-agent/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| chain(&e))?;
        Ok(Self { client, store })
    }

    /// Opens `location` at `from`, if it is still the `version` it was.
    pub(super) async fn open(
        &self,
        location: &Location,
        from: u64,
        version: Option<&str>,
    ) -> Result<Opened, Failure> {
        match location {
            Location::Web(url) => self.web(url, from, version).await,
            Location::Bucket { bucket, key } => self.bucket(bucket, key, from, version).await,
            Location::File { root, path } => file(root, path, from).await,
        }
    }

    async fn web(&self, url: &Url, from: u64, version: Option<&str>) -> Result<Opened, Failure> {
        let shown = shown(url.as_str());
        let mut request = self.client.get(url.clone());
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
            if let Some(version) = version {
                request = request.header(IF_RANGE, version);
            }
        }
        let response = request.send().await.map_err(|e| {
            let redirected = e.is_redirect();
            let why = chain(&e.without_url());
            if redirected {
                Failure::forbidden(format!("`{shown}` redirects where we do not follow: {why}"))
            } else {
                Failure::unreachable(format!(
                    "`{shown}` cannot be reached: {why}; tried again by itself"
                ))
            }
        })?;
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let (offset, total) = match status {
            StatusCode::OK => (0, response.content_length()),
            StatusCode::PARTIAL_CONTENT => header(CONTENT_RANGE).and_then(range).ok_or_else(|| {
                Failure::unreachable(format!(
                    "`{shown}` answers 206 without a Content-Range that we understand"
                ))
            })?,
            // What we have is all there is, or more: the digest will tell.
            StatusCode::RANGE_NOT_SATISFIABLE => (from, Some(from)),
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                return Err(Failure::not_found(format!(
                    "`{shown}` answers {status}; correct source.uri or put the file there"
                )));
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                return Err(Failure::forbidden(format!(
                    "`{shown}` answers {status}; this node may not read it"
                )));
            }
            status
                if status.is_client_error()
                    && status != StatusCode::TOO_MANY_REQUESTS
                    && status != StatusCode::REQUEST_TIMEOUT =>
            {
                return Err(Failure::not_found(format!(
                    "`{shown}` answers {status}; correct source.uri"
                )));
            }
            status => {
                return Err(Failure::unreachable(format!(
                    "`{shown}` answers {status}; tried again by itself"
                )));
            }
        };
        // A weak tag does not promise the same bytes.
        let version = header(ETAG)
            .filter(|tag| !tag.starts_with("W/"))
            .or_else(|| header(LAST_MODIFIED))
            .map(str::to_owned);
        let bytes = if status == StatusCode::RANGE_NOT_SATISFIABLE {
            futures::stream::empty().boxed()
        } else {
            response
                .bytes_stream()
                .map_err(|e| chain(&e.without_url()))
                .boxed()
        };
        Ok(Opened {
            offset,
            total,
            version,
            bytes,
        })
    }

    async fn bucket(
        &self,
        bucket: &str,
        key: &str,
        from: u64,
        version: Option<&str>,
    ) -> Result<Opened, Failure> {
        let name = format!("s3://{bucket}/{key}");
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&self.store.region)
            .with_client_options(
                ClientOptions::new()
                    .with_connect_timeout(CONNECT)
                    .with_read_timeout(IDLE)
                    .with_timeout_disabled()
                    .with_allow_http(true),
            )
            // We resume by ourselves and tell what happens.
            .with_retry(RetryConfig {
                max_retries: 0,
                ..RetryConfig::default()
            });
        if let Some(endpoint) = &self.store.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        builder = match &self.store.keys {
            Some((id, secret)) => builder.with_access_key_id(id).with_secret_access_key(secret),
            // Without keys only public buckets answer; nobody is to wait for a metadata service that is not there.
            None => builder.with_skip_signature(true),
        };
        let store = builder.build().map_err(|e| {
            Failure::forbidden(format!(
                "`{name}`: the object store cannot be used: {e}; see spec.agent.s3 of the InferenceCluster"
            ))
        })?;
        let path = object_store::path::Path::parse(key)
            .map_err(|e| Failure::invalid(format!("`{name}`: the key is no object's name: {e}")))?;
        let sort = |error: object_store::Error| {
            use object_store::Error as E;
            let where_ = self.store.endpoint.as_deref().unwrap_or("Amazon S3");
            match error {
                E::NotFound { .. } => Failure::not_found(format!(
                    "`{name}` is not there ({where_}); correct source.uri or put the object there"
                )),
                E::PermissionDenied { .. } | E::Unauthenticated { .. } => Failure::forbidden(format!(
                    "`{name}` may not be read with these keys ({where_}); see spec.agent.s3 of the InferenceCluster"
                )),
                error => Failure::unreachable(format!(
                    "`{name}` cannot be read ({where_}): {}; tried again by itself",
                    chain(&error)
                )),
            }
        };
        let mut from = from;
        if from > 0 {
            let head = GetOptions {
                head: true,
                ..GetOptions::default()
            };
            let now = store.get_opts(&path, head).await.map_err(sort)?.meta;
            if version.is_some_and(|had| now.e_tag.as_deref() != Some(had)) || from > now.size {
                // Another version lies there now.
                from = 0;
            } else if from == now.size {
                // There is nothing left to ask for, and asking would be an error.
                return Ok(Opened {
                    offset: from,
                    total: Some(from),
                    version: now.e_tag,
                    bytes: futures::stream::empty().boxed(),
                });
            }
        }
        let options = GetOptions {
            range: (from > 0).then_some(GetRange::Offset(from)),
            ..GetOptions::default()
        };
        let got = store.get_opts(&path, options).await.map_err(sort)?;
        Ok(Opened {
            offset: got.range.start,
            total: Some(got.meta.size),
            version: got.meta.e_tag.clone(),
            bytes: got.into_stream().map_err(|e| chain(&e)).boxed(),
        })
    }
}

/// Where redirects may lead: not in circles, and never from a protected connection to an open one. No URI of ours
/// carries credentials, so none can follow.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let downgrade = attempt.url().scheme() != "https"
        && attempt
            .previous()
            .last()
            .is_some_and(|from| from.scheme() == "https");
    if downgrade {
        attempt.error("from https to http")
    } else if attempt.previous().len() > REDIRECTS {
        attempt.error(format!("more than {REDIRECTS} hops"))
    } else {
        attempt.follow()
    }
}

/// `bytes FIRST-LAST/TOTAL`.
fn range(header: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = header.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

async fn file(root: &Path, path: &Path, from: u64) -> Result<Opened, Failure> {
    let name = root.join(path);
    let shown = name.display().to_string();
    let at = name.clone();
    let root = root.to_owned();
    let opened = tokio::task::spawn_blocking(move || beneath(&root, &at))
        .await
        .map_err(|e| Failure::unreachable(format!("`{shown}`: {e}")))?;
    let failed = |error: &io::Error| {
        let mut text = format!("`{shown}`: {error}");
        match error.kind() {
            io::ErrorKind::NotFound => {
                text += "; on this node there is no such file";
                Failure::not_found(text)
            }
            io::ErrorKind::PermissionDenied => Failure::forbidden(text),
            io::ErrorKind::InvalidInput => Failure::not_found(text),
            _ => {
                let _ = write!(text, "; tried again by itself");
                Failure::unreachable(text)
            }
        }
    };
    let (file, total) = opened.map_err(|e| failed(&e))?;
    let mut file = tokio::fs::File::from_std(file);
    let offset = if from <= total { from } else { 0 };
    file.seek(io::SeekFrom::Start(offset))
        .await
        .map_err(|e| failed(&e))?;
    let bytes = futures::stream::try_unfold(file, |mut file| async move {
        let mut buffer = Vec::with_capacity(1 << 20);
        let read = file.read_buf(&mut buffer).await.map_err(|e| e.to_string())?;
        Ok((read > 0).then(|| (Bytes::from(buffer), file)))
    });
    Ok(Opened {
        offset,
        total: Some(total),
        version: None,
        bytes: bytes.boxed(),
    })
}

/// Opens a plain file that really lies below `root`: links are followed, but not out of it.
fn beneath(root: &Path, path: &Path) -> io::Result<(std::fs::File, u64)> {
    let root = root.canonicalize()?;
    let real = path.canonicalize()?;
    let outside = || io::Error::new(io::ErrorKind::PermissionDenied, "a link leads out of the folder");
    if !real.starts_with(&root) {
        return Err(outside());
    }
    let file = std::fs::OpenOptions::new()
        .read(true)
        // The path has no links any more, unless somebody puts one there now; a pipe must not make us wait.
        .custom_flags((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32)
        .open(&real)?;
    // What was opened, not what was looked at before.
    let opened = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    if !opened.starts_with(&root) {
        return Err(outside());
    }
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "is not a plain file; source.uri names one ONNX file or one package",
        ));
    }
    Ok((file, metadata.len()))
}
