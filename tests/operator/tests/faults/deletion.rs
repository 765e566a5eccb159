//! What is to go, and what holds it.

use afterglow_crds::labels;
use afterglow_operator_tests::oracles;
use afterglow_operator_tests::proxy::{Rule, Verb, What};
use afterglow_operator_tests::wait::{until, verdict};
use afterglow_operator_tests::world::{MODEL, REST, World};
use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PropagationPolicy};
use kube::{Resource, ResourceExt as _};
use serde_json::json;

use crate::scene::{Scene, seconds};

const FOREIGN: &str = "other.test/hold";

/// OP14: the cleanup fails for a while.
#[tokio::test]
async fn a_cluster_whose_cleanup_fails_goes_when_it_works_again() -> Result<()> {
    let scene = Scene::new("op14", 1).await?;
    let is_cleanup = |call: &afterglow_operator_tests::proxy::Call| {
        call.verb == Verb::Delete && ["daemonsets", "services", "gpunodes"].contains(&call.resource.as_str())
    };
    let rule = scene.proxy.rule(Rule::to(is_cleanup, What::Refuse(500, None)));
    scene.world.undeploy(MODEL).await?;
    scene.world.delete_cluster().await?;
    scene
        .until("the cleanup has failed three times", REST, || rule.hits() >= 3)
        .await?;
    ensure!(
        scene.world.clusters().get_opt(&scene.world.name).await?.is_some(),
        "the cluster went before its cleanup"
    );
    rule.lift();
    gone(&scene.world).await?;
    scene.end().await
}

/// OP14: the node is gone for ever.
#[tokio::test]
async fn a_replica_of_a_node_that_never_comes_back_is_let_go_and_its_cluster_too() -> Result<()> {
    let scene = Scene::new("op14b", 3).await?;
    let world = &scene.world;
    world.agents.silence(&world.nodes[0]);
    world.undeploy(MODEL).await?;
    // Thirty seconds until the agent counts as dead.
    no_replicas(world, seconds(90)).await?;
    world.delete_cluster().await?;
    gone(world).await?;
    scene.end().await
}

/// OP14: the namespace goes with all that is in it.
#[tokio::test]
async fn a_namespace_that_is_deleted_goes_and_nothing_is_made_in_it_meanwhile() -> Result<()> {
    let scene = Scene::new("op14c", 2).await?;
    let world = &scene.world;
    let mark = scene.proxy.record().mark();
    let namespaces: Api<Namespace> = Api::all(world.admin.clone());
    namespaces.delete(&world.team, &DeleteParams::default()).await?;
    until("op14c: the namespace is gone", REST, async || {
        let namespace = namespaces.get_opt(&world.team).await?;
        Ok(verdict(namespace.is_none(), || {
            format!("{:?}", namespace.and_then(|namespace| namespace.status))
        }))
    })
    .await?;
    let made = scene.done(mark, Verb::Create, "modelreplicas");
    // One turn may be under way when it begins.
    ensure!(made.len() <= 2, "{made:?}");
    scene.end().await
}

/// OP14: nobody was there when it was deleted.
#[tokio::test]
async fn what_was_deleted_while_the_operator_was_away_goes_when_it_is_back() -> Result<()> {
    let mut scene = Scene::new("op14d", 2).await?;
    scene.operator.kill()?;
    scene.world.undeploy(MODEL).await?;
    scene.world.delete_cluster().await?;
    scene.operator = scene.world.operator("operator", &scene.proxy)?;
    gone(&scene.world).await?;
    scene.end().await
}

/// OP15.
#[tokio::test]
async fn a_foreign_finalizer_stays_and_ours_alone_is_taken_off() -> Result<()> {
    let scene = Scene::new("op15", 1).await?;
    let world = &scene.world;
    let name = world.replica_names().await?.pop().unwrap_or_default();
    let node = world.replicas().get(&name).await?.spec.node_name;
    hold(&world.replicas(), &name).await?;
    hold(&world.clusters(), &world.name).await?;
    world.agents.silence(&node);
    world.undeploy(MODEL).await?;
    finalizers(&world.replicas(), &name, &[FOREIGN], seconds(90)).await?;
    world.delete_cluster().await?;
    oracles::quiet(world, &scene.proxy, seconds(3)).await?;
    let cluster = world.clusters().get(&world.name).await?;
    ensure!(
        cluster
            .finalizers()
            .iter()
            .any(|name| name == labels::CLUSTER_FINALIZER),
        "while a replica is left, the cluster waits: {:?}",
        cluster.finalizers()
    );
    release(&world.replicas(), &name).await?;
    finalizers(&world.clusters(), &world.name, &[FOREIGN], REST).await?;
    oracles::quiet(world, &scene.proxy, seconds(3)).await?;
    release(&world.clusters(), &world.name).await?;
    gone(world).await?;
    scene.end().await
}

/// OP30.
#[tokio::test]
async fn nothing_is_left_whether_the_owner_goes_first_or_last() -> Result<()> {
    for (name, policy) in [
        ("op30-foreground", PropagationPolicy::Foreground),
        ("op30-background", PropagationPolicy::Background),
    ] {
        let scene = Scene::new(name, 2).await?;
        let params = DeleteParams {
            propagation_policy: Some(policy),
            ..DeleteParams::default()
        };
        scene.world.deployments().delete(MODEL, &params).await?;
        no_replicas(&scene.world, REST).await?;
        scene.world.clusters().delete(&scene.world.name, &params).await?;
        gone(&scene.world).await?;
        scene.end().await?;
    }
    Ok(())
}

/// Nothing is left that the operator or the agents made, only the machines.
async fn gone(world: &World) -> Result<()> {
    until(&format!("{}: nothing is left", world.name), REST, async || {
        let left = afterglow_operator_tests::snapshot::Snapshot::of(world).await?;
        let cluster = world.clusters().get_opt(&world.name).await?;
        let is_gone = cluster.is_none() && left.len() == world.nodes.len();
        Ok(verdict(is_gone, || format!("{left:?}")))
    })
    .await
}

async fn no_replicas(world: &World, limit: std::time::Duration) -> Result<()> {
    until(
        &format!("{}: no replica is left", world.name),
        limit,
        async || {
            let names = world.replica_names().await?;
            Ok(verdict(names.is_empty(), || format!("{names:?}")))
        },
    )
    .await
}

async fn hold<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let mut finalizers = api.get(name).await?.finalizers().to_vec();
    finalizers.push(FOREIGN.to_owned());
    let patch = json!({ "metadata": { "finalizers": finalizers } });
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}

async fn release<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let patch = json!({ "metadata": { "finalizers": null } });
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}

async fn finalizers<K>(api: &Api<K>, name: &str, wanted: &[&str], limit: std::time::Duration) -> Result<()>
where
    K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    until(
        &format!("{name} has the finalizers {wanted:?}"),
        limit,
        async || {
            let found = api.get(name).await?;
            Ok(verdict(found.finalizers() == wanted, || {
                format!("{:?}", found.finalizers())
            }))
        },
    )
    .await
}
