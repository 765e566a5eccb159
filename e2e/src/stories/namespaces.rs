//! Namespaces are walls.

use afterglow_crds::ModelDeployment;
use afterglow_crds::condition::find;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::serve::{ask_from_pod, start_client};
use crate::reference::Reference;
use crate::wire;
use crate::world::{FIRST_START, MINILM, SOON, World, shown};

/// The same name in both, and another model behind it.
const NAME: &str = "ours";

pub(super) async fn two_namespaces_with_the_same_model_name_do_not_see_each_other(
    world: &mut World,
) -> Result<()> {
    world.minilm("minilm-2", 1).await?;
    for (namespace, package) in [("team-a", "perceptron"), ("team-b", "increment")] {
        let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        world.apply(&[made])?;
        world.apply(&[world.models.deployment(namespace, NAME, package, 1)?])?;
    }
    let url_a = url(world, "team-a").await?;
    let url_b = url(world, "team-b").await?;
    ensure!(url_a != url_b, "both are told to ask {url_a}");

    let (rest, base) = (wire::rest()?, world.rest()?);
    let found = wire::infer(&rest, &base, Some("team-a"), NAME, &Reference::row()).await?;
    wire::same(&found, &world.reference.perceptron).context("team-a's answer")?;
    let found = wire::infer(&rest, &base, Some("team-b"), NAME, &[41.0]).await?;
    wire::same(&found, &[42.0]).context("team-b's answer")?;
    for (namespace, visible) in [(Some("team-a"), NAME), (Some("team-b"), NAME), (None, MINILM)] {
        let listed = wire::index(&rest, &base, namespace).await?;
        ensure!(
            listed == [visible],
            "a client of {namespace:?} sees {listed:?} instead of {visible}"
        );
    }
    let stranger = wire::infer(&rest, &base, None, NAME, &[41.0]).await;
    ensure!(
        stranger
            .as_ref()
            .is_err_and(|error| format!("{error:#}").contains("404")),
        "the default namespace got {stranger:?} from a model of another"
    );

    // Programs in a namespace need not say where they are: they ask their own namespace's Service.
    start_client(world, "team-b")?;
    let request = json!({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [41.0]}]});
    let answer: Value = ask_from_pod(
        world,
        "team-b",
        &format!("{url_b}/v2/models/{NAME}/infer"),
        &request,
    )?;
    ensure!(
        answer["outputs"][0]["data"] == json!([42.0]) && answer["model_name"] == NAME,
        "a pod of team-b got {answer}"
    );
    world.kubectl(&["delete", "namespace", "team-a", "team-b", "--timeout=180s"])?;
    Ok(())
}

pub(super) async fn a_namespace_that_the_cluster_does_not_serve_is_told_so(world: &mut World) -> Result<()> {
    world.install()?;
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "outside", "labels": {"afterglow.dev/no-models": "true"}},
    });
    world.apply(&[namespace])?;
    world.apply(&[world.models.deployment("outside", NAME, "increment", 1)?])?;
    world
        .until("the deployment is told", SOON, async || {
            let found: ModelDeployment = world.namespaced("outside", NAME).await?;
            let conditions = found.status.map(|status| status.conditions).unwrap_or_default();
            let ready = find(&conditions, "Ready").with_context(|| shown(&conditions))?;
            ensure!(
                ready.status == "False"
                    && ready.reason == "NamespaceNotAllowed"
                    && ready.message.contains("outside")
                    && ready.message.contains("default"),
                "{}",
                shown(&conditions)
            );
            Ok(())
        })
        .await?;
    ensure!(
        world.replicas("outside", NAME).await?.is_empty(),
        "it has replicas nevertheless"
    );
    world.kubectl(&["delete", "namespace", "outside", "--timeout=180s"])?;
    Ok(())
}

async fn url(world: &World, namespace: &str) -> Result<String> {
    world
        .deployment_ready(namespace, NAME, 1, FIRST_START)
        .await?
        .status
        .and_then(|status| status.url)
        .with_context(|| format!("{namespace}'s deployment does not say where it is"))
}
