//! A new revision under traffic.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

use crate::traffic::Traffic;
use crate::wire;
use crate::world::{FIRST_START, MINILM, SOON, World};

pub(super) async fn a_new_revision_replaces_the_old_one_and_loses_no_request(
    world: &mut World,
) -> Result<()> {
    let before = world.minilm("minilm-1", 2).await?;
    let old: BTreeSet<String> = names(world).await?;
    let first = before.status.map(|status| status.revision).unwrap_or_default();

    let traffic = Traffic::start(world)?;
    world.apply(&[world.models.deployment("default", MINILM, "minilm-2", 2)?])?;
    let after = world.deployment_ready("default", MINILM, 2, FIRST_START).await?;
    let second = after.status.map(|status| status.revision).unwrap_or_default();
    ensure!(second == first + 1, "revision {first} became {second}");
    let turned = traffic.so_far();
    ensure!(
        turned.prompted > 0,
        "no answer came from the new revision: {turned:?}"
    );
    let new = names(world).await?;
    ensure!(old.is_disjoint(&new), "of {old:?} some are still there: {new:?}");

    // Nothing of the old revision answers any more.
    let settled = traffic.so_far();
    world
        .until("only the new revision answers", SOON, async || {
            ensure!(traffic.so_far().prompted > settled.prompted + 20, "not yet");
            Ok(())
        })
        .await?;
    let tally = traffic.nothing_lost().await?;
    ensure!(
        tally.plain <= settled.plain + 2, // those that were under way when the count was taken
        "the old revision answered {} times after it was gone",
        tally.plain - settled.plain
    );

    // The engines hold what is placed on them and nothing else.
    let rest = wire::rest()?;
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for replica in world.replicas("default", MINILM).await? {
        let endpoint = replica
            .status
            .and_then(|status| status.endpoint)
            .context("a Ready replica has no endpoint")?;
        wanted.entry(endpoint.http).or_default().insert(endpoint.model);
    }
    for (engine, models) in wanted {
        world
            .until(
                &format!("the engine at {engine} holds {models:?}"),
                SOON,
                async || {
                    let held: BTreeSet<String> = wire::index(&rest, &format!("http://{engine}"), None)
                        .await?
                        .into_iter()
                        .collect();
                    ensure!(held == models, "it holds {held:?}");
                    Ok(())
                },
            )
            .await?;
    }
    anstream::println!(
        "    {} answers of revision {first}, {} of revision {second}, none lost; the longest took {:.1} s",
        tally.plain,
        tally.prompted,
        tally.longest.as_secs_f64()
    );
    Ok(())
}

async fn names(world: &World) -> Result<BTreeSet<String>> {
    let replicas = world.replicas("default", MINILM).await?;
    Ok(replicas
        .into_iter()
        .filter_map(|replica| replica.metadata.name)
        .collect())
}
