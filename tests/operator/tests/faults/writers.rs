//! Others who write what the operator also writes, or what it must not touch.

use std::time::Duration;

use afterglow_crds::{ModelReplica, labels};
use afterglow_operator_tests::wait::{until, verdict};
use afterglow_operator_tests::world::{MODEL, REST, World};
use afterglow_operator_tests::{oracles, server::Server};
use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::scene::{Scene, seconds};

/// OP10.
#[tokio::test]
async fn a_second_writer_at_fifty_hertz_delays_nothing_and_keeps_what_is_its_own() -> Result<()> {
    let scene = Scene::new("op10", 2).await?;
    let world = &scene.world;
    let services: Api<Service> = Api::namespaced(world.admin.clone(), &world.system);
    let service = format!("afterglow-{}", world.name);
    let mark = scene.proxy.record().mark();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    for turn in 0..400 {
        tick.tick().await;
        let patch = json!({ "metadata": { "labels": { "other.test/turn": turn.to_string() } } });
        services
            .patch(&service, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        let patch = json!({ "metadata": { "annotations": { "other.test/turn": turn.to_string() } } });
        world
            .deployments()
            .patch(MODEL, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        if turn == 100 {
            world.change(MODEL, json!({ "replicas": 3 })).await?;
        }
        if turn == 399 {
            // It had four seconds beside the noise, and the noise is still on.
            world.serves_within(MODEL, 3, seconds(2)).await?;
        }
    }
    let written: Vec<_> = scene
        .proxy
        .record()
        .work_since(mark)
        .into_iter()
        .filter(|entry| entry.call.is_of("services"))
        .collect();
    ensure!(
        written.is_empty(),
        "{} writes to a Service that nobody wanted otherwise",
        written.len()
    );
    let label = services
        .get(&service)
        .await?
        .labels()
        .get("other.test/turn")
        .cloned();
    ensure!(label.as_deref() == Some("399"), "the other's label is {label:?}");
    scene.end().await
}

/// OP11: the status is the operator's own word.
#[tokio::test]
async fn a_status_that_somebody_overwrites_is_said_anew() -> Result<()> {
    let scene = Scene::new("op11b", 1).await?;
    let world = &scene.world;
    let lie = json!({ "status": { "readyReplicas": 7, "url": "http://somewhere.else" } });
    world
        .deployments()
        .patch_status(MODEL, &PatchParams::default(), &Patch::Merge(&lie))
        .await?;
    world
        .clusters()
        .patch_status(
            &world.name,
            &PatchParams::default(),
            &Patch::Merge(&json!({ "status": { "devices": 7 } })),
        )
        .await?;
    until("op11b: the truth is told", seconds(30), async || {
        let status = world.deployments().get(MODEL).await?.status.unwrap_or_default();
        let cluster = world
            .clusters()
            .get(&world.name)
            .await?
            .status
            .unwrap_or_default();
        let is_true = status.ready_replicas == 1
            && cluster.devices == 3
            && status.url.as_deref() != Some("http://somewhere.else");
        Ok(verdict(is_true, || format!("{status:?} {cluster:?}")))
    })
    .await?;
    scene.end().await
}

/// OP16: a replica with our labels and without an owner, where ours would go.
#[tokio::test]
async fn a_replica_that_nobody_owns_is_neither_adopted_nor_taken_away() -> Result<()> {
    let world = World::new("op16").await?;
    let proxy = world.proxy().await?;
    let operator = world.operator("operator", &proxy)?;
    let stranger: ModelReplica = serde_json::from_value(json!({
        "apiVersion": "afterglow.dev/v1alpha1",
        "kind": "ModelReplica",
        "metadata": {
            "name": "bert-1-stranger",
            "labels": { labels::CLUSTER: world.name, labels::DEPLOYMENT: MODEL, labels::REVISION: "1" },
        },
        "spec": {
            "cluster": world.name, "nodeName": world.nodes[0], "device": "gpu-0", "revision": 1, "memory": "1Gi",
            "model": { "name": MODEL, "source": { "uri": "https://models.test/m.onnx", "digest": format!("sha256:{}", "1".repeat(64)) } },
        },
    }))?;
    world.replicas().create(&PostParams::default(), &stranger).await?;
    world.make_cluster().await?;
    world.deploy(MODEL, 2, '1').await?;
    until("op16: two replicas of its own serve", REST, async || {
        let status = world.deployments().get(MODEL).await?.status.unwrap_or_default();
        Ok(verdict(
            status.ready_replicas == 2 && status.replicas == 2,
            || format!("{status:?}"),
        ))
    })
    .await?;
    oracles::quiet(&world, &proxy, seconds(2)).await?;
    let names = world.replica_names().await?;
    ensure!(names.len() == 3, "{names:?}");
    world.change(MODEL, json!({ "replicas": 0 })).await?;
    until("op16: its own are gone", REST, async || {
        let names = world.replica_names().await?;
        Ok(verdict(names == ["bert-1-stranger"], || format!("{names:?}")))
    })
    .await?;
    let stranger = world.replicas().get("bert-1-stranger").await?;
    ensure!(stranger.owner_references().is_empty() && stranger.metadata.deletion_timestamp.is_none());
    Scene::of(world, proxy, operator).end().await
}

/// OP16: a Service of somebody else's that has the name which ours would get.
#[tokio::test]
async fn an_object_of_somebody_else_is_named_and_left_alone() -> Result<()> {
    let world = World::with_nodes(Server::shared()?, "op16b", 1).await?;
    let services: Api<Service> = Api::namespaced(world.admin.clone(), &world.system);
    let name = format!("afterglow-{}", world.name);
    let theirs: Service = serde_json::from_value(json!({
        "metadata": { "name": name }, "spec": { "ports": [{ "name": "theirs", "port": 1234 }] },
    }))?;
    services.create(&PostParams::default(), &theirs).await?;
    let proxy = world.proxy().await?;
    let operator = world.operator("operator", &proxy)?;
    world.make_cluster().await?;
    until("op16b: the cluster says whose it is not", REST, async || {
        let status = world
            .clusters()
            .get(&world.name)
            .await?
            .status
            .unwrap_or_default();
        let words = serde_json::to_string(&status.conditions)?;
        Ok(verdict(
            words.contains(&format!("Service {}/{name} exists already", world.system)),
            || words.clone(),
        ))
    })
    .await?;
    let ports = services
        .get(&name)
        .await?
        .spec
        .and_then(|spec| spec.ports)
        .unwrap_or_default();
    ensure!(ports.len() == 1 && ports[0].port == 1234, "{ports:?}");
    services.delete(&name, &DeleteParams::default()).await?;
    // It looks again by itself, each time after a longer pause.
    until("op16b: ours takes its place", 2 * REST, async || {
        let ports = services
            .get(&name)
            .await?
            .spec
            .and_then(|spec| spec.ports)
            .unwrap_or_default();
        Ok(verdict(ports.iter().all(|port| port.port != 1234), || {
            format!("{ports:?}")
        }))
    })
    .await?;
    world.cluster_is_ready().await?;
    Scene::of(world, proxy, operator).end().await
}

/// OP16: two deployments that want one name.
#[tokio::test]
async fn of_two_that_want_a_name_the_first_keeps_it_and_the_second_follows() -> Result<()> {
    let scene = Scene::new("op16c", 1).await?;
    let world = &scene.world;
    let mut second = world.wish("second", 1, '2')?;
    second.spec.model.name = Some(MODEL.to_owned());
    // Times are whole seconds: the younger one is to be younger.
    tokio::time::sleep(seconds(1)).await;
    world
        .deployments()
        .create(&PostParams::default(), &second)
        .await?;
    until("op16c: the second is refused", REST, async || {
        let words = world.words("second").await?;
        Ok(verdict(words.0 == "NameTaken", || format!("{words:?}")))
    })
    .await?;
    world.serves(MODEL, 1).await?;
    world.undeploy(MODEL).await?;
    world.serves("second", 1).await?;
    scene.end().await
}
