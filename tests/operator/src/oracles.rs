//! What holds whatever was done to the operator: O1 the end state is that of a life without faults, O2 nothing was made or
//! deleted more often, O3 then nobody writes any more. O5, that no process ended or panicked, is [`Operator::is_well`]'s.
//!
//! [`Operator::is_well`]: crate::operator::Operator::is_well

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::proxy::{Counts, Proxy};
use crate::snapshot::Snapshot;
use crate::wait::{Verdict, until, verdict};
use crate::world::World;

/// O1, within so long.
pub async fn end_state(world: &World, wanted: &Snapshot, limit: Duration) -> Result<()> {
    until(&format!("{}: as without faults", world.name), limit, async || {
        Ok(match Snapshot::of(world).await?.difference(wanted) {
            None => Verdict::Yes(()),
            Some(difference) => Verdict::NotYet(difference),
        })
    })
    .await
}

/// O2: names that differ between worlds stand in both as `WORLD`.
pub fn counts(world: &World, found: &Counts, wanted: &Counts) -> Result<()> {
    let found = general(world, found);
    ensure!(
        found == *wanted,
        "{}: made and deleted {found:?}, and not {wanted:?}",
        world.name
    );
    Ok(())
}

/// Counts in words that are the same in every world; replicas by how many, as their names are made of the nodes'.
pub fn general(world: &World, counts: &Counts) -> Counts {
    let mut general = Counts::new();
    for ((verb, object), count) in counts {
        if object.starts_with("modelreplicas ") {
            // Each name counts for itself: one that was made twice is not two that were made once.
            *general
                .entry((*verb, format!("modelreplicas, {count} times")))
                .or_default() += 1;
        } else {
            *general
                .entry((*verb, object.replace(&world.name, "WORLD")))
                .or_default() += count;
        }
    }
    general
}

/// O3: nothing is written for so long; it may take [`crate::world::REST`] until that begins.
pub async fn quiet(world: &World, proxy: &Proxy, window: Duration) -> Result<()> {
    until(
        &format!("{}: nothing is written for {} s", world.name, window.as_secs()),
        crate::world::REST + window,
        async || {
            let record = proxy.record();
            Ok(verdict(record.quiet_for() >= window, || {
                let last = record
                    .work_since(0)
                    .last()
                    .map(|entry| (entry.call.verb, entry.call.object(), entry.said));
                format!("the last write was {last:?}")
            }))
        },
    )
    .await
}
