//! The last view of the fleet in a file, so that a scheduler that is started again while the API server is away can serve.
//!
//! Kept are the objects, not the view: the view is made of them as always, by whatever version reads the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use afterglow_crds::{GpuNode, ModelDeployment, ModelReplica};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Fleet, from_objects};

/// Where the view is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept(PathBuf);

/// What a view is made of.
#[derive(Debug, Serialize)]
struct Objects<'a> {
    replicas: Vec<&'a ModelReplica>,
    nodes: Vec<&'a GpuNode>,
    deployments: Vec<&'a ModelDeployment>,
}

/// The same, as it is read.
#[derive(Debug, Deserialize)]
struct Read {
    replicas: Vec<ModelReplica>,
    nodes: Vec<GpuNode>,
    deployments: Vec<ModelDeployment>,
}

impl Kept {
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The view of the last time.
    pub(super) async fn read(&self, cluster: &str) -> Result<Fleet> {
        let path = self.0.display();
        let text = tokio::fs::read(&self.0).await;
        let text = text.with_context(|| format!("reading the kept view of the fleet, `{path}`"))?;
        let read: Read = serde_json::from_slice(&text)
            .with_context(|| format!("`{path}` is not a kept view of the fleet; it may be deleted"))?;
        Ok(from_objects(
            cluster,
            &read.replicas,
            &read.nodes,
            &read.deployments,
        ))
    }

    /// Puts the objects in place of those that were kept.
    pub(super) async fn write(
        &self,
        replicas: &[Arc<ModelReplica>],
        nodes: &[Arc<GpuNode>],
        deployments: &[Arc<ModelDeployment>],
    ) -> Result<()> {
        let text = serde_json::to_vec(&Objects {
            replicas: replicas.iter().map(AsRef::as_ref).collect(),
            nodes: nodes.iter().map(AsRef::as_ref).collect(),
            deployments: deployments.iter().map(AsRef::as_ref).collect(),
        })?;
        let write = async |beside: &Path| {
            tokio::fs::write(beside, text).await?;
            // Whole or not at all: we may be killed in between.
            tokio::fs::rename(beside, &self.0).await
        };
        write(&self.0.with_extension("new"))
            .await
            .with_context(|| format!("keeping the view of the fleet in `{}`", self.0.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::objects::tests::replica;
    use super::*;

    #[tokio::test]
    async fn what_is_kept_makes_the_same_view_again() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::at(folder.path().join("fleet.json"));
        let replicas = [Arc::new(replica("a", |_| {}))];
        kept.write(&replicas, &[], &[]).await.unwrap();
        let nodes: [GpuNode; 0] = [];
        let deployments: [ModelDeployment; 0] = [];
        let view = from_objects("main", &replicas, &nodes, &deployments);
        assert_eq!(kept.read("main").await.unwrap(), view);
        assert_eq!(view.replicas().count(), 1);
    }

    #[tokio::test]
    async fn a_file_that_is_missing_or_torn_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::at(folder.path().join("fleet.json"));
        let missing = format!("{:#}", kept.read("main").await.unwrap_err());
        assert!(missing.contains("fleet.json"), "{missing}");
        std::fs::write(folder.path().join("fleet.json"), "{\"replicas\":[").unwrap();
        let torn = format!("{:#}", kept.read("main").await.unwrap_err());
        assert!(torn.contains("may be deleted"), "{torn}");
    }
}
