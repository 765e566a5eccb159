//! More replicas, and fewer.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::traffic::Traffic;
use crate::world::{FIRST_START, MINILM, SOON, World};

pub(super) async fn scaling_up_and_down_loses_no_request(world: &mut World) -> Result<()> {
    world.minilm("minilm-1", 2).await?;
    let traffic = Traffic::start(world)?;
    let deployment = format!("modeldeployment/{MINILM}");
    world.kubectl(&["scale", &deployment, "--replicas=3"])?;
    world.deployment_ready("default", MINILM, 3, FIRST_START).await?;
    let nodes: BTreeSet<String> = world
        .replicas("default", MINILM)
        .await?
        .into_iter()
        .map(|replica| replica.spec.node_name)
        .collect();
    ensure!(nodes.len() == 3, "three replicas are on {nodes:?}");
    let before = traffic.so_far().plain;
    world
        .until("requests are answered by three replicas", SOON, async || {
            ensure!(traffic.so_far().plain > before + 20, "not yet");
            Ok(())
        })
        .await?;
    world.kubectl(&["scale", &deployment, "--replicas=1"])?;
    world.deployment_ready("default", MINILM, 1, SOON).await?;
    let tally = traffic.nothing_lost().await?;
    anstream::println!(
        "    {} answers over REST and {} over gRPC, none lost; the longest took {:.1} s",
        tally.plain,
        tally.tensors,
        tally.longest.as_secs_f64()
    );
    Ok(())
}
