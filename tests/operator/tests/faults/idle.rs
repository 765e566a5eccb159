//! Nothing to do, and nothing done.

use afterglow_operator_tests::life::knows;
use afterglow_operator_tests::oracles;
use afterglow_operator_tests::world::MODEL;
use anyhow::{Result, ensure};

use crate::scene::{Scene, seconds};

/// OP12: longer than a watch lasts, and than the sweep's round.
#[tokio::test]
async fn forty_idle_seconds_see_no_write() -> Result<()> {
    let scene = Scene::new("op12", 2).await?;
    let mark = scene.proxy.record().mark();
    tokio::time::sleep(seconds(40)).await;
    let written = scene.proxy.record().work_since(mark);
    ensure!(written.is_empty(), "{written:?}");
    scene.end().await
}

/// OP13.
#[tokio::test]
async fn a_second_look_says_the_same_to_the_byte_and_writes_nothing() -> Result<()> {
    let mut scene = Scene::new("op13", 2).await?;
    let world = &scene.world;
    let status = async || -> Result<(String, String)> {
        let deployment = world.deployments().get(MODEL).await?;
        let cluster = world.clusters().get(&world.name).await?;
        Ok((
            serde_json::to_string(&deployment.status)?,
            serde_json::to_string(&cluster.status)?,
        ))
    };
    let before = status().await?;
    let mark = scene.proxy.record().mark();
    scene.operator.restart()?;
    knows(&scene.proxy, mark).await?;
    scene.proxy.record().disturb();
    oracles::quiet(world, &scene.proxy, seconds(3)).await?;
    ensure!(
        status().await? == before,
        "{before:?} became {:?}",
        status().await?
    );
    let written = scene.proxy.record().work_since(mark);
    ensure!(written.is_empty(), "{written:?}");
    scene.end().await
}
