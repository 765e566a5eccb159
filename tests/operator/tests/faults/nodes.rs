//! Nodes that come and go.

use std::time::Duration;

use afterglow_crds::condition::{self, DEGRADED};
use afterglow_operator_tests::agents::offer;
use afterglow_operator_tests::proxy::Verb;
use afterglow_operator_tests::server::Server;
use afterglow_operator_tests::wait::{until, verdict};
use afterglow_operator_tests::world::{MODEL, REST};
use anyhow::{Context as _, Result, ensure};

use crate::scene::{Scene, seconds};

/// OP24.
#[tokio::test]
async fn a_card_that_flaps_sixty_times_moves_nothing() -> Result<()> {
    let scene = Scene::new("op24", 2).await?;
    let world = &scene.world;
    let replica = world.replica_names().await?.pop().context("a replica")?;
    let node = world.replicas().get(&replica).await?.spec.node_name;
    let mark = scene.proxy.record().mark();
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    for turn in 0..120 {
        tick.tick().await;
        offer(&world.admin, &node, turn % 2 == 1).await?;
    }
    let (made, deleted) = (
        scene.done(mark, Verb::Create, "modelreplicas").len(),
        scene.done(mark, Verb::Delete, "modelreplicas").len(),
    );
    ensure!((made, deleted) == (0, 0), "{made} made, {deleted} deleted");
    world.serves(MODEL, 2).await?;
    scene.end().await
}

/// OP25.
#[tokio::test]
async fn when_four_of_five_agents_vanish_the_last_replica_stays_and_all_come_back() -> Result<()> {
    let scene = Scene::among(Server::shared()?, "op25", 5, 4).await?;
    let world = &scene.world;
    let names = world.replica_names().await?;
    let kept = world.replicas().get(&names[0]).await?;
    let mark = scene.proxy.record().mark();
    let silent: Vec<&String> = world
        .nodes
        .iter()
        .filter(|node| **node != kept.spec.node_name)
        .collect();
    for node in &silent {
        world.agents.silence(node);
    }
    until(
        "op25: the deployment says that it is short",
        seconds(60),
        async || {
            let status = world.deployments().get(MODEL).await?.status.unwrap_or_default();
            let degraded = condition::find(&status.conditions, DEGRADED);
            Ok(verdict(
                status.ready_replicas == 1 && degraded.is_some_and(|degraded| degraded.status == "True"),
                || format!("{status:?}"),
            ))
        },
    )
    .await?;
    println!("{:?}", world.words(MODEL).await?);
    let now = world.replicas().get(&names[0]).await?;
    ensure!(
        now.metadata.uid == kept.metadata.uid && now.metadata.deletion_timestamp.is_none(),
        "the last one went"
    );
    let made = scene.done(mark, Verb::Create, "modelreplicas").len();
    ensure!(made <= 1, "{made} were made where no device is left");
    for node in &silent {
        world.agents.wake(node);
    }
    // Where one more was made meanwhile, one of five goes, whichever.
    world.serves_within(MODEL, 4, REST).await?;
    scene.end().await
}
