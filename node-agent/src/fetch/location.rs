//! Where a model lies: a URI, understood and checked before anything is opened.

use std::path::{Component, Path, PathBuf};

use reqwest::Url;

use super::{Failure, Options};

/// Where a model lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// On a web server.
    Web(Url),
    /// In an object store.
    Bucket {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
    },
    /// In a folder of this machine.
    File {
        /// What the path may not leave.
        root: PathBuf,
        /// Below it.
        path: PathBuf,
    },
}

impl Location {
    /// Understands `uri`; what is not allowed is refused here.
    pub(super) fn parse(uri: &str, options: &Options) -> Result<Self, Failure> {
        let malformed = |why: &str| {
            Failure::invalid(format!(
                "the source `{}` {why}; possible are https://HOST/PATH, http://HOST/PATH, s3://BUCKET/KEY, \
                 pvc://VOLUME/PATH and file:///PATH",
                shown(uri)
            ))
        };
        let (scheme, rest) = uri.split_once("://").ok_or_else(|| malformed("has no scheme"))?;
        match scheme {
            "http" | "https" => {
                let url = Url::parse(uri).map_err(|e| malformed(&format!("is no URL ({e})")))?;
                if !url.username().is_empty() || url.password().is_some() {
                    return Err(Failure::forbidden(format!(
                        "the source at `{}` carries credentials, which everybody who may read the object would see; \
                         take a URL without, or an object store (s3://)",
                        url.host_str().unwrap_or_default()
                    )));
                }
                Ok(Self::Web(url))
            }
            "s3" => match rest.split_once('/') {
                Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => Ok(Self::Bucket {
                    bucket: bucket.to_owned(),
                    key: key.to_owned(),
                }),
                _ => Err(malformed("names no bucket or no key")),
            },
            "pvc" => match rest.split_once('/') {
                Some((volume, path)) if plain(volume) && !path.is_empty() => Ok(Self::File {
                    root: options.volumes.join(volume),
                    path: below(path).ok_or_else(|| malformed("leaves its volume"))?,
                }),
                _ => Err(malformed("names no volume or no path")),
            },
            "file" => {
                let Some((said, mounted)) = &options.model_path else {
                    return Err(Failure::forbidden(format!(
                        "`{uri}`: this cluster allows no files of the node; set spec.agent.modelPath of the InferenceCluster \
                         to the folder that models may come from"
                    )));
                };
                let path = Path::new(rest);
                let relative = path.is_absolute().then(|| path.strip_prefix(said).ok()).flatten();
                match relative.and_then(|relative| below(relative.to_str()?)) {
                    Some(path) => Ok(Self::File {
                        root: mounted.clone(),
                        path,
                    }),
                    None => Err(Failure::forbidden(format!(
                        "`{uri}` is not below `{}`, the only folder of the node that models may come from \
                         (spec.agent.modelPath of the InferenceCluster)",
                        said.display()
                    ))),
                }
            }
            other => Err(malformed(&format!("has the scheme `{other}`"))),
        }
    }

    /// The file's name, as far as there is one.
    pub(super) fn file_name(&self) -> String {
        let path = match self {
            Self::Web(url) => url.path(),
            Self::Bucket { key, .. } => key,
            Self::File { path, .. } => return path.to_string_lossy().into_owned(),
        };
        path.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

/// An address as people may see it: what follows the path of a web address may be what signs it.
pub(crate) fn shown(uri: &str) -> &str {
    if uri.starts_with("http") {
        uri.split(['?', '#']).next().unwrap_or(uri)
    } else {
        uri
    }
}

fn plain(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

/// A relative path that goes only down.
fn below(path: &str) -> Option<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    let down = path.components().all(|part| matches!(part, Component::Normal(_)));
    (down && path.components().next().is_some()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(model_path: Option<&str>) -> Options {
        Options {
            model_path: model_path.map(|path| (path.into(), "/models/host".into())),
            volumes: "/models/volumes".into(),
            ..Options::new("/cache".into(), 1 << 30)
        }
    }

    #[test]
    fn every_scheme_finds_its_place() {
        let at = |uri: &str| Location::parse(uri, &options(Some("/srv/models")));
        assert!(matches!(at("https://h/a/m.onnx"), Ok(Location::Web(_))));
        assert_eq!(
            at("s3://b/k/m.tar").unwrap(),
            Location::Bucket {
                bucket: "b".into(),
                key: "k/m.tar".into()
            }
        );
        assert_eq!(
            at("pvc://store/k/m.tar").unwrap(),
            Location::File {
                root: "/models/volumes/store".into(),
                path: "k/m.tar".into()
            }
        );
        assert_eq!(
            at("file:///srv/models/k/m.tar").unwrap(),
            Location::File {
                root: "/models/host".into(),
                path: "k/m.tar".into()
            }
        );
    }

    #[test]
    fn what_leaves_its_folder_or_carries_credentials_is_refused() {
        for (uri, reason) in [
            ("file:///etc/passwd", "SourceForbidden"),
            ("file:///srv/models/../../etc/passwd", "SourceForbidden"),
            ("file:///srv/modelsecrets/x", "SourceForbidden"),
            ("file://srv/models/x", "SourceForbidden"),
            ("file:///srv/models", "SourceForbidden"),
            ("pvc://../x", "PackageInvalid"),
            ("pvc://store/../../x", "PackageInvalid"),
            ("pvc://store", "PackageInvalid"),
            ("s3://bucket", "PackageInvalid"),
            ("ftp://h/x", "PackageInvalid"),
            ("/srv/models/x", "PackageInvalid"),
            ("https://user:secret@h/x", "SourceForbidden"),
            ("https://?sig=secret@h", "PackageInvalid"),
        ] {
            let failure = Location::parse(uri, &options(Some("/srv/models"))).unwrap_err();
            assert_eq!(failure.reason, reason, "{uri}: {failure}");
            assert!(!failure.message.contains("secret@"), "{failure}");
        }
        let failure = Location::parse("file:///srv/models/x", &options(None)).unwrap_err();
        assert!(failure.message.contains("modelPath"), "{failure}");
    }
}
