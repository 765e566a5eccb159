//! Rolling restarts under load, as an upgrade of anything makes them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::steady::{self, NODES};
use crate::faults::Program;
use crate::load::{Load, judge};
use crate::world::{FIRST_START, SOON, SYSTEM, World};

const TIMES: usize = 5;
const REPLICAS: usize = 3;

pub(super) async fn restarting_everything_one_by_one_loses_no_request(world: &mut World) -> Result<()> {
    steady::serve(world, REPLICAS as i32).await?;
    let load = steady::load(world, "restarts", 10, REPLICAS).await?;
    for turn in 1..=TIMES {
        for workload in [
            "deployment/afterglow-operator",
            "deployment/afterglow-scheduler-default",
            "daemonset/afterglow-agent-default",
        ] {
            let what = format!("restart {turn} of {workload}");
            let before = load.clock();
            world.kubectl(&["rollout", "restart", "-n", SYSTEM, workload])?;
            world
                .kubectl(&["rollout", "status", "-n", SYSTEM, workload, "--timeout=600s"])
                .with_context(|| format!("{what}{}", world.picture()))?;
            nothing_lost(world, &load, &what, before).await?;
        }
        for node in NODES {
            let what = format!("restart {turn} of the engine of {node}");
            let before = load.clock();
            for engine in Program::Engine.surely_on(world.provider.as_ref(), node)? {
                engine.signal(Signal::TERM)?;
                world
                    .until(&format!("the engine of {node} has ended"), SOON, async || {
                        ensure!(!engine.alive(), "process {} still runs", engine.pid);
                        Ok(())
                    })
                    .await?;
            }
            nothing_lost(world, &load, &what, before).await?;
        }
        anstream::println!("    round {turn} of {TIMES} is over");
    }
    let seen = load.end().await?;
    let share = judge::share(&seen.entries);
    ensure!(
        share.bad == 0,
        "{} of {} requests were lost; the worst of {}:{}",
        share.bad,
        share.all,
        seen.file.display(),
        judge::shown(&seen.entries, 10)
    );
    anstream::println!(
        "    {} requests through {} rolling restarts, none lost; attempts/requests {:.3}; the slowest took {:.1} s",
        share.all,
        TIMES * 4,
        seen.attempts.ratio(),
        judge::slowest(&seen.entries).as_secs_f64()
    );
    Ok(())
}

/// Waits until all is well again, and fails if it was not all the time.
async fn nothing_lost(world: &World, load: &Load, what: &str, since: Duration) -> Result<()> {
    world
        .cluster_ready("default", FIRST_START)
        .await
        .with_context(|| format!("after {what}{}", world.picture()))?;
    let calm = steady::calm(world, load, REPLICAS, SOON).await;
    let entries = load.ledger().since(since);
    let share = judge::share(&entries);
    ensure!(
        share.bad == 0,
        "{what} lost {} of {} requests; the worst:{}{}",
        share.bad,
        share.all,
        judge::shown(&entries, 10),
        world.picture()
    );
    calm.with_context(|| format!("after {what}"))
}
