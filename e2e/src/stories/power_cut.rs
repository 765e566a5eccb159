//! The plug of a node is pulled.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use afterglow_crds::condition::{READY, is_true};
use afterglow_crds::labels;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;

use super::steady::{self, NAME};
use crate::faults::{Fault, Struck};
use crate::load::{DEADLINE, judge};
use crate::world::{SOON, SYSTEM, World};

const OFF_WITHIN: Duration = Duration::from_secs(2);
const READY_WITHIN: Duration = Duration::from_mins(1);
/// After the node is back, so long nothing may change.
const QUIET: Duration = Duration::from_mins(1);

pub(super) async fn traffic_leaves_a_node_whose_power_is_cut_and_its_replica_serves_elsewhere(
    world: &mut World,
) -> Result<()> {
    // Everywhere once: a first start on a node is not what is measured.
    steady::serve(world, 3).await?;
    steady::serve(world, 2).await?;
    let before = replicas(world).await?;
    // Clients come in over node1.
    let victim = before
        .values()
        .map(|replica| replica.node.clone())
        .find(|node| node != "node1")
        .with_context(|| format!("both replicas are on one node: {before:?}"))?;
    steady::shelter(world, &[&victim])?;
    let load = steady::load(world, "power-cut", 10, 2).await?;

    let fault = Fault::PowerCut { node: victim.clone() };
    let struck = Struck::strike(fault, world.provider.as_mut(), Duration::from_mins(10))?;
    let strike = load.at(struck.at);
    let elsewhere = world
        .until(
            &format!("two replicas serve, none on {victim}"),
            SOON,
            async || {
                let now = replicas(world).await?;
                let ready = now
                    .values()
                    .filter(|replica| replica.ready && replica.node != victim);
                ensure!(ready.count() == 2, "the replicas are {now:?}");
                Ok(now)
            },
        )
        .await
        .with_context(|| world.picture())?;
    let placed = load.clock().saturating_sub(strike);
    // The fate of what was sent until then is known after a client's patience.
    world
        .until("requests of the time of the cut have ended", SOON, async || {
            ensure!(
                load.clock() > strike + OFF_WITHIN + 2 * DEADLINE,
                "some may still be under way"
            );
            Ok(())
        })
        .await?;
    let seen = load.so_far()?;
    let off = judge::last_bad(&seen.entries, strike, load.clock());
    let lost = judge::share(&judge::during(&seen.entries, strike, load.clock()));
    anstream::println!(
        "    traffic was off {victim} after {:.1} s ({} of {} requests lost), its replica Ready elsewhere after {:.1} s",
        off.as_secs_f64(),
        lost.bad,
        lost.all,
        placed.as_secs_f64()
    );
    ensure!(
        off <= OFF_WITHIN,
        "requests went to {victim} for {:.1} s after its power was cut, not {} s at most; the worst of {}:{}{}",
        off.as_secs_f64(),
        OFF_WITHIN.as_secs(),
        seen.file.display(),
        judge::shown(&seen.entries, 10),
        world.picture()
    );
    ensure!(
        placed <= READY_WITHIN,
        "the replica of {victim} was Ready elsewhere after {:.1} s, not {} s at most{}",
        placed.as_secs_f64(),
        READY_WITHIN.as_secs(),
        world.picture()
    );

    let wanted: BTreeMap<String, Place> = elsewhere
        .into_iter()
        .filter(|(_, place)| place.node != victim)
        .collect();
    let boots = Timestamp::now();
    struck.undo()?;
    world
        .until(
            &format!("the agent of {victim} renews its lease"),
            SOON,
            async || {
                let lease: Lease = world.namespaced(SYSTEM, &labels::lease(&victim)).await?;
                let renewed = lease.spec.and_then(|spec| spec.renew_time);
                ensure!(
                    renewed.as_ref().is_some_and(|time| time.0 > boots),
                    "it did at {renewed:?}, and booted at {boots}"
                );
                Ok(())
            },
        )
        .await
        .with_context(|| world.picture())?;
    nothing_moves(world, &wanted).await?;
    let seen = load.end().await?;
    steady::nothing_wrong(&seen.entries)
}

/// A replica as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    node: String,
    ready: bool,
    since: String,
}

async fn replicas(world: &World) -> Result<BTreeMap<String, Place>> {
    let found = world.replicas("default", NAME).await?;
    Ok(found
        .into_iter()
        // What its dead agent cannot let go of is on its way out.
        .filter(|replica| replica.metadata.deletion_timestamp.is_none())
        .map(|replica| {
            let conditions = replica.status.map(|status| status.conditions).unwrap_or_default();
            let since = conditions
                .iter()
                .find(|condition| condition.type_ == READY)
                .map(|condition| condition.last_transition_time.0.to_string());
            let place = Place {
                node: replica.spec.node_name,
                ready: is_true(&conditions, READY),
                since: since.unwrap_or_default(),
            };
            (replica.metadata.name.unwrap_or_default(), place)
        })
        .collect())
}

/// For a minute the replicas stay who they are, where they are and Ready without a break.
async fn nothing_moves(world: &World, wanted: &BTreeMap<String, Place>) -> Result<()> {
    world
        .until("what the dead agent had is gone", SOON, async || {
            let now = replicas(world).await?;
            ensure!(now == *wanted, "there are {now:?}, wanted are {wanted:?}");
            Ok(())
        })
        .await
        .with_context(|| world.picture())?;
    let end = Instant::now() + QUIET;
    world
        .until("a minute has passed in which nothing moved", SOON, async || {
            let now = replicas(world).await?;
            if now != *wanted {
                return Ok(Err(now));
            }
            ensure!(Instant::now() > end, "not yet");
            Ok(Ok(()))
        })
        .await?
        .map_err(|now| {
            anyhow::anyhow!(
                "the node came back, and the replicas became {now:?}; they were {wanted:?}{}",
                world.picture()
            )
        })
}
