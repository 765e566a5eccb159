//! What the API server lets in.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::world::{FIRST_START, SYSTEM, World};

pub(super) async fn every_object_is_admitted_at_its_security_level(world: &mut World) -> Result<()> {
    world.install()?;
    world.cluster_ready("default", FIRST_START).await?;
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "restricted", "labels": {
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/warn": "restricted",
        }},
    });
    world.apply(&[namespace])?;
    // What the chart renders, as the API server itself reads it, unknown fields included.
    let values = world.tools.root.join("e2e/values.yaml");
    let rendered = world.helm(&[
        "template",
        "afterglow",
        &world.chart(),
        "--namespace",
        SYSTEM,
        "--values",
        &values.to_string_lossy(),
    ])?;
    world
        .kubectl_feed(
            &[
                "apply",
                "--dry-run=server",
                "--validate=strict",
                "--warnings-as-errors",
                "-f",
                "-",
            ],
            &rendered,
        )
        .context("what the chart renders")?;
    // Operator and scheduler need nothing: they pass the strictest level. The agent mounts folders of its node.
    for deployment in ["afterglow-operator", "afterglow-scheduler-default"] {
        let found = world.kubectl(&["get", "-n", SYSTEM, "deployment", deployment, "-o", "json"])?;
        let found: Value = serde_json::from_str(&found).context("read a Deployment")?;
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": "restricted", "name": deployment},
            "spec": found["spec"]["template"]["spec"],
        });
        let mut pod = pod;
        // Its account lives in the release's namespace; the level is what is tried here.
        pod["spec"]["serviceAccountName"] = json!("default");
        pod["spec"]["serviceAccount"] = json!("default");
        world
            .kubectl_feed(
                &["create", "--dry-run=server", "--warnings-as-errors", "-f", "-"],
                &pod.to_string(),
            )
            .with_context(|| format!("{deployment} at the level restricted"))?;
    }
    world.kubectl(&["delete", "namespace", "restricted", "--wait=false"])?;
    Ok(())
}
