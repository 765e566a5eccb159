//! What people may choose, and the bounds that they may not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use afterglow_crds::inference_cluster::Strategy;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use tokio::sync::watch;

/// How often the file is looked at: a `ConfigMap` takes about a minute to arrive anyway.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the `InferenceCluster` says about routing; the operator writes it into a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// How a replica is picked.
    #[serde(default)]
    pub strategy: Strategy,
    /// The namespace of requests that do not say one.
    #[serde(default = "default_namespace")]
    pub default_namespace: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            default_namespace: default_namespace(),
        }
    }
}

fn default_namespace() -> String {
    "default".to_owned()
}

impl Config {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).context("it is not what a scheduler can be told")
    }

    async fn read(path: &Path) -> Result<Self> {
        let text = tokio::fs::read_to_string(path).await;
        text.map_err(anyhow::Error::from)
            .and_then(|text| Self::parse(&text))
            .with_context(|| format!("configuration {}", path.display()))
    }
}

/// Reads the file now, and again whenever it changes. A change that cannot be read is logged and changes nothing.
pub async fn watch_file(path: PathBuf) -> Result<watch::Receiver<Config>> {
    let (sender, receiver) = watch::channel(Config::read(&path).await?);
    tokio::spawn(async move {
        let mut told = None;
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            match Config::read(&path).await {
                Ok(new) => {
                    told = None;
                    sender.send_if_modified(|old| {
                        let changed = *old != new;
                        if changed {
                            tracing::info!(?new, "configuration changed");
                            *old = new;
                        }
                        changed
                    });
                }
                Err(error) => {
                    let text = format!("{error:#}");
                    if told.as_ref() != Some(&text) {
                        tracing::warn!(error = text, "the last good configuration stays");
                        told = Some(text);
                    }
                }
            }
        }
    });
    Ok(receiver)
}

/// Bounds of what is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request.
    pub body_bytes: usize,
    /// Bytes of all requests that are being served.
    pub in_flight_bytes: usize,
    /// Requests that are being served.
    pub in_flight: usize,
    /// The longest that a request may take; also what one gets that does not say.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 << 20,
            in_flight_bytes: 256 << 20,
            in_flight: 4096,
            deadline: Duration::from_mins(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_means_the_defaults_and_a_typo_is_refused() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
        let config = Config::parse("strategy: LeastLoaded\ndefaultNamespace: team-a\n").unwrap();
        assert_eq!(
            (config.strategy, config.default_namespace.as_str()),
            (Strategy::LeastLoaded, "team-a")
        );
        assert!(Config::parse("strategie: Adaptive").is_err());
        assert!(Config::parse("strategy: Fastest").is_err());
    }
}
