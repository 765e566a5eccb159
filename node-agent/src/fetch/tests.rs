//! Stories of downloads from a real web server in this process, and of packages that nobody should unpack.

use std::io::Write as _;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use futures::StreamExt as _;
use rustix::fs::{Mode, OFlags};

use super::*;

fn digest_of(bytes: &[u8]) -> String {
    Digest::read(bytes).unwrap().to_string()
}

fn source(uri: impl Into<String>, content: &[u8]) -> Source {
    Source {
        uri: uri.into(),
        digest: digest_of(content),
    }
}

/// Bytes that do not repeat.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

/// A web server with one file.
struct Web {
    content: Vec<u8>,
    /// A response ends after so many bytes of its body.
    cut: AtomicU64,
    gets: AtomicUsize,
    sent: AtomicU64,
}

impl Web {
    async fn start(content: Vec<u8>, cut: u64) -> (Arc<Self>, String) {
        let web = Arc::new(Self {
            content,
            cut: AtomicU64::new(cut),
            gets: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
        });
        let router = Router::new()
            .route("/m.onnx", get(Self::file))
            .route("/secret.onnx", get(|| async { StatusCode::FORBIDDEN }))
            .route("/down.onnx", get(|| async { StatusCode::BAD_GATEWAY }))
            .route("/hop.onnx", get(|| async { Redirect::temporary("/m.onnx") }))
            .route("/loop.onnx", get(|| async { Redirect::temporary("/loop.onnx") }))
            .with_state(Arc::clone(&web));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (web, format!("http://{address}"))
    }

    #[expect(clippy::unused_async, reason = "a handler is asynchronous, whatever it does")]
    async fn file(State(web): State<Arc<Self>>, headers: HeaderMap) -> Response {
        web.gets.fetch_add(1, Ordering::Relaxed);
        let total = web.content.len() as u64;
        let tag = "\"v1\"";
        let range = headers.get(header::RANGE).and_then(|range| {
            range
                .to_str()
                .ok()?
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse::<u64>()
                .ok()
        });
        let same = headers.get(header::IF_RANGE).is_none_or(|had| had == tag);
        let (status, from) = match range.filter(|_| same) {
            Some(from) if from >= total => return StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
            Some(from) => (StatusCode::PARTIAL_CONTENT, from),
            None => (StatusCode::OK, 0),
        };
        let rest = &web.content[from as usize..];
        let cut = web.cut.load(Ordering::Relaxed).min(rest.len() as u64);
        web.sent.fetch_add(cut, Ordering::Relaxed);
        let part = Bytes::copy_from_slice(&rest[..cut as usize]);
        let broken = cut < rest.len() as u64;
        // What came before is sent before the connection breaks.
        let rest_of_it = futures::stream::once(async move {
            tokio::task::yield_now().await;
            broken.then(|| Err(std::io::Error::other("cut")))
        });
        let body = Body::from_stream(
            futures::stream::iter([Ok(part)]).chain(rest_of_it.filter_map(std::future::ready)),
        );
        Response::builder()
            .status(status)
            .header(header::ETAG, tag)
            .header(header::CONTENT_LENGTH, rest.len())
            .header(
                header::CONTENT_RANGE,
                format!("bytes {from}-{}/{total}", total - 1),
            )
            .body(body)
            .unwrap()
    }
}

fn fetcher(cache: &FilePath, size: u64) -> Fetcher {
    Fetcher::open(Options::new(cache.to_owned(), size)).unwrap()
}

fn names(folder: &FilePath) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_model_is_fetched_once_however_many_want_it_and_survives_a_restart() {
    let content = noise(300_000);
    let (web, url) = Web::start(content.clone(), u64::MAX).await;
    let cache = tempfile::tempdir().unwrap();
    let fetcher_a = fetcher(cache.path(), 10 << 20);
    let wanted = source(format!("{url}/hop.onnx"), &content);
    let (first, second) = tokio::join!(fetcher_a.fetch(&wanted), fetcher_a.fetch(&wanted));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.path(), second.path());
    assert_eq!(std::fs::read(first.path().join("model.onnx")).unwrap(), content);
    assert_eq!(web.gets.load(Ordering::Relaxed), 1);
    assert_eq!(
        names(&cache.path().join("blobs/sha256")),
        Vec::<String>::new(),
        "the folder has all of it"
    );
    assert_eq!(fetcher_a.progress(&wanted), None);
    drop((first, second));
    fetcher(cache.path(), 10 << 20).fetch(&wanted).await.unwrap();
    assert_eq!(web.gets.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_download_that_breaks_goes_on_where_it_was() {
    let content = noise(400_000);
    let (web, url) = Web::start(content.clone(), 150_000).await;
    let cache = tempfile::tempdir().unwrap();
    let tree = fetcher(cache.path(), 10 << 20)
        .fetch(&source(format!("{url}/m.onnx"), &content))
        .await
        .unwrap();
    assert_eq!(std::fs::read(tree.path().join("model.onnx")).unwrap(), content);
    assert!(web.gets.load(Ordering::Relaxed) >= 3);
    assert_eq!(names(&cache.path().join("partial")), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_killed_agent_left_is_gone_on_with_or_thrown_away() {
    let content = noise(300_000);
    for (left, version, sent) in [
        (content[..200_000].to_vec(), "\"v1\"", 100_000),
        // Of another version: the source sends everything.
        (noise(200_001)[1..].to_vec(), "\"v0\"", 300_000),
        // Wrong bytes under the right version: the digest tells, and it begins anew.
        (vec![7; 200_000], "\"v1\"", 400_000),
        // All of it, but not yet under its name.
        (content.clone(), "\"v1\"", 0),
    ] {
        let (web, url) = Web::start(content.clone(), u64::MAX).await;
        let wanted = source(format!("{url}/m.onnx"), &content);
        let cache = tempfile::tempdir().unwrap();
        let partial = cache
            .path()
            .join("partial")
            .join(&wanted.digest["sha256:".len()..]);
        std::fs::create_dir_all(partial.parent().unwrap()).unwrap();
        std::fs::write(&partial, left).unwrap();
        std::fs::write(partial.with_extension("version"), version).unwrap();
        // Half unpacked, by another.
        let half = cache.path().join("trees/sha256/00.new");
        std::fs::create_dir_all(&half).unwrap();
        let tree = fetcher(cache.path(), 10 << 20).fetch(&wanted).await.unwrap();
        assert_eq!(std::fs::read(tree.path().join("model.onnx")).unwrap(), content);
        assert_eq!(web.sent.load(Ordering::Relaxed), sent, "{version}");
        assert!(!half.exists());
    }
}

#[tokio::test]
async fn a_wrong_blob_from_before_is_not_trusted() {
    let content = noise(1000);
    let (web, url) = Web::start(content.clone(), u64::MAX).await;
    let wanted = source(format!("{url}/m.onnx"), &content);
    let cache = tempfile::tempdir().unwrap();
    let blobs = cache.path().join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(&wanted.digest["sha256:".len()..]), "something else").unwrap();
    let tree = fetcher(cache.path(), 1 << 20).fetch(&wanted).await.unwrap();
    assert_eq!(std::fs::read(tree.path().join("model.onnx")).unwrap(), content);
    assert_eq!(web.gets.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn every_failure_has_its_reason_and_leaves_no_model() {
    let content = noise(100_000);
    let (_web, url) = Web::start(content.clone(), u64::MAX).await;
    let cache = tempfile::tempdir().unwrap();
    let fetcher = fetcher(cache.path(), 10 << 20);
    let other = noise(5);
    for (path, content, reason, retry) in [
        ("/nobody.onnx", &content, "SourceNotFound", Retry::Slowly),
        ("/secret.onnx", &content, "SourceForbidden", Retry::Slowly),
        ("/down.onnx", &content, "SourceUnreachable", Retry::Soon),
        ("/loop.onnx", &content, "SourceForbidden", Retry::Slowly),
        ("/m.onnx", &other, "DigestMismatch", Retry::Slowly),
    ] {
        let failure = fetcher
            .fetch(&source(format!("{url}{path}?signature=hidden"), content))
            .await
            .unwrap_err();
        assert_eq!(
            (failure.reason, failure.retry),
            (reason, retry),
            "{path}: {failure}"
        );
        assert!(
            !failure.message.contains("hidden"),
            "what signs an address is secret: {failure}"
        );
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let failure = fetcher
        .fetch(&source(
            format!("http://{nobody}/m.onnx?signature=hidden"),
            &content,
        ))
        .await
        .unwrap_err();
    assert_eq!(failure.reason, "SourceUnreachable", "{failure}");
    assert!(!failure.message.contains("hidden"), "{failure}");
    let malformed = Source {
        uri: format!("{url}/m.onnx"),
        digest: "sha256:12".into(),
    };
    assert_eq!(
        fetcher.fetch(&malformed).await.unwrap_err().reason,
        "PackageInvalid"
    );
    for folder in ["trees/sha256", "blobs/sha256"] {
        assert_eq!(
            names(&cache.path().join(folder)),
            Vec::<String>::new(),
            "{folder}"
        );
    }
}

#[tokio::test]
async fn the_cache_makes_room_by_what_nobody_uses_and_says_when_it_cannot() {
    let [a, b, big] = [noise(60_000), noise(60_001), noise(200_000)];
    let (_, url_a) = Web::start(a.clone(), u64::MAX).await;
    let (_, url_b) = Web::start(b.clone(), u64::MAX).await;
    let (_, url_big) = Web::start(big.clone(), u64::MAX).await;
    let cache = tempfile::tempdir().unwrap();
    let fetcher = fetcher(cache.path(), 100_000);
    let (a, b) = (
        source(format!("{url_a}/m.onnx"), &a),
        source(format!("{url_b}/m.onnx"), &b),
    );
    let tree_a = fetcher.fetch(&a).await.unwrap();
    let held = fetcher.usage();
    assert_eq!((held.limit, held.in_use, held.evictable), (100_000, 60_000, 0));
    assert!(held.disk.is_some_and(|disk| disk.size >= disk.free), "{held:?}");
    let full = fetcher.fetch(&b).await.unwrap_err();
    assert_eq!(full.reason, "CacheFull");
    assert!(
        full.message.contains("100000") && full.message.contains("60001"),
        "{full}"
    );
    let path_a = tree_a.path().to_owned();
    drop(tree_a);
    let tree_b = fetcher.fetch(&b).await.unwrap();
    assert!(tree_b.path().exists() && !path_a.exists());
    let large = fetcher
        .fetch(&source(format!("{url_big}/m.onnx"), &big))
        .await
        .unwrap_err();
    assert_eq!(large.reason, "SourceTooLarge", "{large}");
    assert!(tree_b.path().exists());
}

/// Where the parts of a model lie in the cache.
fn in_cache(cache: &FilePath, part: &str, wanted: &Source) -> PathBuf {
    cache.join(part).join(&wanted.digest["sha256:".len()..])
}

#[tokio::test]
async fn a_bit_that_flips_on_the_disk_is_noticed_before_anything_parses_it() {
    let content = noise(1000);
    let (web, url) = Web::start(content.clone(), u64::MAX).await;
    let wanted = source(format!("{url}/m.onnx"), &content);
    let cache = tempfile::tempdir().unwrap();
    let first = fetcher(cache.path(), 1 << 20);
    let tree = first.fetch(&wanted).await.unwrap();
    let model = tree.path().join("model.onnx");
    let mut flipped = content.clone();
    flipped[500] ^= 1;
    std::fs::write(&model, &flipped).unwrap();
    assert_eq!(
        std::fs::read(first.fetch(&wanted).await.unwrap().path().join("model.onnx")).unwrap(),
        flipped,
        "compared once in a process: it costs as long as reading all of it"
    );
    // A model that was refused is looked at once more: it may be innocent.
    assert!(!first.whole(&wanted).await);
    let mended = first.fetch(&wanted).await.unwrap();
    assert_eq!(std::fs::read(&model).unwrap(), content);
    assert!(first.whole(&wanted).await);
    drop((tree, mended));
    // And by an agent that has just started.
    std::fs::write(&model, &flipped).unwrap();
    let tree = fetcher(cache.path(), 1 << 20).fetch(&wanted).await.unwrap();
    assert_eq!(std::fs::read(tree.path().join("model.onnx")).unwrap(), content);
    assert_eq!(web.gets.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_model_that_somebody_has_removed_from_the_cache_is_fetched_again() {
    let content = noise(1000);
    let (web, url) = Web::start(content.clone(), u64::MAX).await;
    let wanted = source(format!("{url}/m.onnx"), &content);
    let cache = tempfile::tempdir().unwrap();
    let fetcher = fetcher(cache.path(), 1 << 20);
    let mut used = None;
    for gets in 1..4 {
        let tree = fetcher.fetch(&wanted).await.unwrap();
        assert_eq!(std::fs::read(tree.path().join("model.onnx")).unwrap(), content);
        assert_eq!(web.gets.load(Ordering::Relaxed), gets);
        std::fs::remove_dir_all(tree.path()).unwrap();
        // Once while nobody uses it, once while somebody does.
        used = Some(tree).filter(|_| gets == 2);
    }
    drop(used);
}

#[tokio::test]
async fn what_cannot_be_read_in_the_cache_goes_and_the_rest_stays() {
    let content = noise(1000);
    let (web, url) = Web::start(content.clone(), u64::MAX).await;
    let wanted = source(format!("{url}/m.onnx"), &content);
    let cache = tempfile::tempdir().unwrap();
    drop(fetcher(cache.path(), 1 << 20).fetch(&wanted).await.unwrap());
    // A path too long to be named, which stops even root.
    let deep = cache.path().join("trees/sha256/deep");
    std::fs::create_dir(&deep).unwrap();
    let name = "x".repeat(250);
    let mut at = rustix::fs::open(&deep, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..20 {
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    drop(at);
    let again = fetcher(cache.path(), 1 << 20);
    assert!(!deep.exists());
    again.fetch(&wanted).await.unwrap();
    assert_eq!(web.gets.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_cache_that_cannot_be_used_is_said_of_each_model_and_heals_by_itself() {
    let content = noise(1000);
    let (_web, url) = Web::start(content.clone(), u64::MAX).await;
    let wanted = source(format!("{url}/m.onnx"), &content);
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    // No folder can be made here, whoever asks.
    std::fs::write(&cache, "").unwrap();
    let fetcher = fetcher(&cache, 1 << 20);
    for _ in 0..2 {
        let failure = fetcher.fetch(&wanted).await.unwrap_err();
        assert_eq!(
            (failure.reason, failure.retry),
            ("CacheUnusable", Retry::Soon),
            "{failure}"
        );
        assert!(failure.message.contains("--cache"), "what to do: {failure}");
    }
    std::fs::remove_file(&cache).unwrap();
    drop(fetcher.fetch(&wanted).await.unwrap());
    // It becomes so while the agent runs.
    let other = noise(2000);
    let (_web, url) = Web::start(other.clone(), u64::MAX).await;
    let other = source(format!("{url}/m.onnx"), &other);
    let partial = in_cache(&cache, "partial", &other);
    std::fs::create_dir(&partial).unwrap();
    let failure = fetcher.fetch(&other).await.unwrap_err();
    assert_eq!(
        (failure.reason, failure.retry),
        ("CacheUnusable", Retry::Soon),
        "{failure}"
    );
    fetcher
        .fetch(&wanted)
        .await
        .expect("what is here is still served");
    std::fs::remove_dir(&partial).unwrap();
    fetcher.fetch(&other).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_is_full_before_the_cache_is_loses_what_nobody_uses_then_says_so_and_heals() {
    let [unused, used, wanted] = [noise(1000), noise(1001), noise(1002)];
    let cache = tempfile::tempdir().unwrap();
    let fetcher = fetcher(cache.path(), 1 << 20);
    let mut sources = Vec::new();
    for content in [&unused, &used, &wanted] {
        let (_web, url) = Web::start(content.clone(), u64::MAX).await;
        sources.push(source(format!("{url}/m.onnx"), content));
    }
    drop(fetcher.fetch(&sources[0]).await.unwrap());
    let kept = fetcher.fetch(&sources[1]).await.unwrap();
    // The last file that a model needs does not fit.
    let sums = in_cache(cache.path(), "sums/sha256", &sources[2]);
    std::os::unix::fs::symlink("/dev/full", &sums).unwrap();
    let failure = fetcher.fetch(&sources[2]).await.unwrap_err();
    assert_eq!(
        (failure.reason, failure.retry),
        ("CacheFull", Retry::Soon),
        "{failure}"
    );
    assert!(failure.message.contains("make room"), "{failure}");
    assert_eq!(
        names(&cache.path().join("trees/sha256")),
        [kept.path().file_name().unwrap().to_string_lossy()],
        "nothing half, and nothing unused"
    );
    std::fs::remove_file(&sums).unwrap();
    let tree = fetcher.fetch(&sources[2]).await.unwrap();
    assert_eq!(std::fs::read(tree.path().join("model.onnx")).unwrap(), wanted);
}

#[tokio::test]
async fn a_file_of_the_node_must_really_lie_in_its_folder() {
    let root = tempfile::tempdir().unwrap();
    let models = root.path().join("models");
    std::fs::create_dir(&models).unwrap();
    let content = noise(10);
    std::fs::write(models.join("m.onnx"), &content).unwrap();
    std::fs::write(root.path().join("secret"), &content).unwrap();
    std::os::unix::fs::symlink("../secret", models.join("out.onnx")).unwrap();
    std::os::unix::fs::symlink("m.onnx", models.join("in.onnx")).unwrap();
    let fetcher = Fetcher::open(Options {
        model_path: Some(("/srv/models".into(), models.clone())),
        volumes: root.path().to_owned(),
        ..Options::new(root.path().join("cache"), 1 << 20)
    })
    .unwrap();
    for (uri, outcome) in [
        ("file:///srv/models/out.onnx", Err("SourceForbidden")),
        ("pvc://models/out.onnx", Err("SourceForbidden")),
        ("file:///srv/models/nobody.onnx", Err("SourceNotFound")),
        ("file:///srv/models/../models", Err("SourceForbidden")),
        ("pvc://cache/trees", Err("SourceNotFound")),
        ("file:///srv/models/in.onnx", Ok(())),
        ("pvc://models/m.onnx", Ok(())),
    ] {
        let got = fetcher.fetch(&source(uri, &content)).await.map(drop);
        assert_eq!(got.map_err(|failure| failure.reason), outcome, "{uri}");
    }
}

/// A tar with entries of any kind; paths are written as they are said.
fn tar(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_ustar_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        if *kind != tar::EntryType::Regular {
            header.set_link_name("model.onnx").unwrap();
        }
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn unpacked(package: &[u8]) -> (tempfile::TempDir, Result<u64, Failure>) {
    let root = tempfile::tempdir().unwrap();
    let (blob, out) = (root.path().join("blob"), root.path().join("out"));
    std::fs::write(&blob, package).unwrap();
    let digest = Digest::read(package).unwrap();
    let outcome = unpack::unpack(&blob, &digest, "m", &out, |_| Ok(()));
    let bytes = outcome.map(|unpacked| {
        assert_eq!(unpacked.sums, Sums::of(&out).unwrap(), "noted is what lies there");
        unpacked.bytes
    });
    (root, bytes)
}

#[test]
fn a_package_becomes_a_folder_packed_or_not() {
    use tar::EntryType::{Directory, Regular};
    let archive = tar(&[
        ("./", Directory, b""),
        ("./model.onnx", Regular, b"m"),
        ("1_Pooling/config.json", Regular, b"{}"),
    ]);
    for package in [archive.clone(), gzip(&archive)] {
        let (root, outcome) = unpacked(&package);
        assert_eq!(outcome, Ok(3));
        assert_eq!(std::fs::read(root.path().join("out/model.onnx")).unwrap(), b"m");
        assert_eq!(
            std::fs::read(root.path().join("out/1_Pooling/config.json")).unwrap(),
            b"{}"
        );
    }
    let (root, outcome) = unpacked(b"an ONNX file");
    assert_eq!(outcome, Ok(12));
    assert_eq!(
        std::fs::read(root.path().join("out/model.onnx")).unwrap(),
        b"an ONNX file"
    );
}

#[test]
fn packages_that_attack_are_refused_and_write_nothing_outside() {
    use tar::EntryType as E;
    let ok = ("model.onnx", E::Regular, b"m".as_slice());
    for (entries, expected) in [
        (vec![ok, ("../evil", E::Regular, b"x".as_slice())], "leads out"),
        (vec![ok, ("a/../../evil", E::Regular, b"x")], "leads out"),
        (vec![ok, ("/evil", E::Regular, b"x")], "leads out"),
        (vec![ok, ("l", E::Symlink, b"")], "links"),
        (vec![ok, ("l", E::Link, b"")], "links"),
        (vec![ok, ("d", E::Char, b"")], "links"),
        (vec![ok, ("f", E::Fifo, b"")], "links"),
        (vec![ok, ok], "model.onnx"),
        (vec![ok, ("model.onnx/x", E::Regular, b"x")], "model.onnx"),
        (vec![("sub/model.onnx", E::Regular, b"m")], "afterglow pack"),
        (vec![("f", E::Regular, b"x"); 0], "afterglow pack"),
    ] {
        let (root, outcome) = unpacked(&gzip(&tar(&entries)));
        let failure = outcome.unwrap_err();
        assert_eq!(failure.reason, "PackageInvalid");
        assert!(failure.message.contains(expected), "{failure}");
        assert!(!root.path().join("evil").exists());
    }
    let many: Vec<String> = (0..10_001).map(|i| format!("f{i}")).collect();
    let many: Vec<_> = many
        .iter()
        .map(|name| (name.as_str(), E::Regular, b"".as_slice()))
        .collect();
    assert!(
        unpacked(&gzip(&tar(&many)))
            .1
            .unwrap_err()
            .message
            .contains("10000")
    );
    let bomb = gzip(&tar(&[("model.onnx", E::Regular, &vec![0; 20 << 20])]));
    assert!(
        unpacked(&bomb).1.unwrap_err().message.contains("100 times"),
        "{}",
        bomb.len()
    );
    // A name of 2 MiB, which the archive's parser would keep in memory.
    let long = gzip(&tar(&[
        ("././@LongLink", E::GNULongName, &vec![b'a'; 2 << 20]),
        ok,
    ]));
    assert!(unpacked(&long).1.unwrap_err().message.contains("headers"));
    let whole = gzip(&tar(&[ok]));
    assert_eq!(
        unpacked(&whole[..whole.len() - 20]).1.unwrap_err().reason,
        "PackageInvalid"
    );
}
