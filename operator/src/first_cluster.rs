//! The `InferenceCluster` that comes with the installation, where one was asked for.
//!
//! An installer cannot make an object of a kind that it installs in the same breath, so it leaves the object in a file, and
//! the operator applies it at the start of every term. What people change in other fields stays theirs; where they changed
//! the same ones, they win, and the log says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use afterglow_crds::InferenceCluster;
use anyhow::{Context as _, ensure};
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::Value;

use crate::call::call;
use crate::cluster::claim::Claim;
use crate::operator::Context;

/// Not the operator's own: with that, its finalizer would be taken for a field that the file no longer wants.
const MANAGER: &str = "afterglow-installation";
const RETRY: Duration = Duration::from_secs(5);
const RARELY: Duration = Duration::from_mins(5);

/// Another installation has made a cluster of this name.
#[derive(Debug, thiserror::Error)]
#[error(
    "InferenceCluster {name} is operated from namespace {namespace}: give this installation's another name (the chart's value \
     cluster.name)"
)]
struct OperatedElsewhere {
    name: String,
    namespace: String,
}

/// Applies the file's object until it is taken or refused for good. Never returns: a task of a term ends with the term.
pub(crate) async fn run(context: Arc<Context>, file: PathBuf) {
    while let Err(error) = apply(&context, &file).await {
        let wait = if error.is::<OperatedElsewhere>() {
            RARELY
        } else {
            RETRY
        };
        let conflict = error
            .downcast_ref::<crate::call::Error>()
            .is_some_and(|error| error.code() == Some(409));
        tracing::warn!(
            error = format!("{error:#}"),
            file = %file.display(),
            "the installation's InferenceCluster was not applied"
        );
        if conflict {
            break;
        }
        tokio::time::sleep(wait).await;
    }
    std::future::pending::<()>().await;
}

async fn apply(context: &Context, file: &Path) -> anyhow::Result<()> {
    let (cluster, body) = read(file)?;
    let name = cluster.name_any();
    if let Some(there) = context.world.clusters.get(&ObjectRef::new(&name))
        && let Claim::Elsewhere(namespace) = context.world.claim(&*there)
    {
        return Err(OperatedElsewhere { name, namespace }.into());
    }
    let api: Api<InferenceCluster> = Api::all(context.client.clone());
    let params = PatchParams::apply(MANAGER);
    let patch = Patch::Apply(&body);
    let write = api.patch(&name, &params, &patch);
    call(
        &context.metrics,
        "patch",
        format!("InferenceCluster {name}"),
        write,
    )
    .await?;
    tracing::info!(name, "the installation's InferenceCluster is applied");
    Ok(())
}

/// The object as its kind, to be sure that it is one, and as it is written, to own no field that it does not name.
fn read(file: &Path) -> anyhow::Result<(InferenceCluster, Value)> {
    let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let what = || format!("{} is not an InferenceCluster in JSON", file.display());
    let body: Value = serde_json::from_slice(&text).with_context(what)?;
    ensure!(
        body["apiVersion"] == *InferenceCluster::api_version(&())
            && body["kind"] == *InferenceCluster::kind(&()),
        what()
    );
    let cluster: InferenceCluster = serde_json::from_value(body.clone()).with_context(what)?;
    ensure!(
        !cluster.name_any().is_empty(),
        "the InferenceCluster in {} has no name",
        file.display()
    );
    Ok((cluster, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> anyhow::Result<(InferenceCluster, Value)> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cluster.json");
        std::fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn only_what_the_file_names_is_applied() {
        let text = r#"{"apiVersion":"afterglow.dev/v1alpha1","kind":"InferenceCluster","metadata":{"name":"default"},"spec":{}}"#;
        let (cluster, body) = read_text(text).unwrap();
        assert_eq!(cluster.name_any(), "default");
        assert_eq!(
            body["spec"],
            serde_json::json!({}),
            "defaults are the API server's, not ours to own"
        );
    }

    #[test]
    fn another_kind_no_name_and_no_file_are_refused_by_name() {
        for text in [
            r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}"#,
            r#"{"apiVersion":"afterglow.dev/v1alpha1","kind":"InferenceCluster","metadata":{},"spec":{}}"#,
            "kind: InferenceCluster",
        ] {
            let error = read_text(text).unwrap_err().to_string();
            assert!(error.contains("cluster.json"), "{error}");
        }
        assert!(
            read(Path::new("/no/such/file"))
                .unwrap_err()
                .to_string()
                .contains("/no/such/file")
        );
    }
}
