//! What the API server lets in.

use anyhow::{Context, Result, bail, ensure};
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde::Deserialize;
use serde_json::{Value, json};

use super::merge;

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
    let rendered = world.rendered(&["--values", &values.to_string_lossy()])?;
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
    world.kubectl(&["delete", "namespace", "restricted", "--timeout=60s"])?;
    Ok(())
}

/// `crds/examples/refused.yaml`: what each kind refuses, and what it takes right beside it.
#[derive(Deserialize)]
struct Table {
    objects: serde_json::Map<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    why: String,
    kind: String,
    refused: Value,
    accepted: Value,
    message: String,
    /// Whether the object itself is there first, and is then changed.
    #[serde(default)]
    change: bool,
}

pub(super) async fn the_api_server_refuses_what_cannot_be_meant(world: &mut World) -> Result<()> {
    world.install()?;
    let path = world.tools.root.join("crds/examples/refused.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let table: Table = serde_saphyr::from_str(&text).with_context(|| format!("read {}", path.display()))?;
    ensure!(
        table.cases.len() > 20,
        "the table has only {} cases",
        table.cases.len()
    );
    let mut wrong = Vec::new();
    for case in &table.cases {
        let object = table
            .objects
            .get(&case.kind)
            .with_context(|| format!("the table has no object of kind {}", case.kind))?;
        if let Err(error) = judge(world, object, case).await {
            wrong.push(format!("{}: {error:#}", case.why));
        }
    }
    if !wrong.is_empty() {
        bail!(
            "{} of {} cases: {}",
            wrong.len(),
            table.cases.len(),
            wrong.join("; ")
        );
    }
    anstream::println!(
        "    {} rules, each with what it refuses and what it takes",
        table.cases.len()
    );
    Ok(())
}

async fn judge(world: &World, object: &Value, case: &Case) -> Result<()> {
    let kind = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("afterglow.dev", "v1alpha1", &case.kind),
        &format!("{}s", case.kind.to_lowercase()),
    );
    let client = world.client.clone();
    let objects: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client, namespace, &kind),
        None => Api::all_with(client, &kind),
    };
    let read = |value: Value| serde_json::from_value::<DynamicObject>(value).context("read the object");
    if case.change {
        let name = object["metadata"]["name"]
            .as_str()
            .context("the object has no name")?;
        objects
            .create(&PostParams::default(), &read(object.clone())?)
            .await
            .context("make the object")?;
        let dry = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let refused = objects.patch(name, &dry, &Patch::Merge(&case.refused)).await;
        let accepted = objects.patch(name, &dry, &Patch::Merge(&case.accepted)).await;
        objects
            .delete(name, &DeleteParams::default())
            .await
            .context("delete the object")?;
        return verdict(case, refused, accepted);
    }
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let changed = |patch: &Value| {
        let mut object = object.clone();
        merge(&mut object, patch);
        read(object)
    };
    let refused = objects.create(&dry, &changed(&case.refused)?).await;
    let accepted = objects.create(&dry, &changed(&case.accepted)?).await;
    verdict(case, refused, accepted)
}

fn verdict(
    case: &Case,
    refused: kube::Result<DynamicObject>,
    accepted: kube::Result<DynamicObject>,
) -> Result<()> {
    match refused {
        Ok(_) => bail!("was taken"),
        Err(error) => ensure!(
            error.to_string().contains(&case.message),
            "was refused with other words: {error}"
        ),
    }
    accepted
        .map(drop)
        .context("what stands beside it was refused too")
}
