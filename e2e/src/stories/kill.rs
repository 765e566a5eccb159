//! SIGKILL for each of our programs, again and again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;

use super::state;
use super::steady;
use crate::faults::{Fault, Program, Struck};
use crate::load::{full_capacity, judge};
use crate::world::{SOON, SYSTEM, World};

const TIMES: usize = 5;
/// One on each node: there is only one place for each, so the end state is one.
const REPLICAS: i32 = 3;

/// What clients saw of one kill.
struct Row {
    words: String,
    strike: Duration,
    /// When the cluster was as before.
    over: Duration,
}

pub(super) async fn what_is_killed_comes_back_and_leaves_the_cluster_as_it_was(
    world: &mut World,
) -> Result<()> {
    steady::serve(world, REPLICAS).await?;
    steady::rolled_out(world)?;
    let load = steady::load(world, "kill", 10, REPLICAS as usize).await?;
    let undisturbed = state::of(world)?;
    let nodes: Vec<String> = (1..=4).map(|number| format!("node{number}")).collect();
    let mut rows = Vec::new();
    for program in Program::ALL {
        for turn in 0..TIMES {
            let places = program.whereabouts(world.provider.as_ref(), &nodes);
            ensure!(
                !places.is_empty(),
                "no {program} runs anywhere{}",
                world.picture()
            );
            let node = places[turn % places.len()].1.clone();
            let before = program.on(world.provider.as_ref(), &node)?;
            let fault = Fault::Kill {
                program,
                node: node.clone(),
            };
            let words = format!("{fault}, {} of {TIMES}", turn + 1);
            let killed = Timestamp::now();
            let struck = Struck::strike(fault, world.provider.as_mut(), Duration::ZERO)?;
            let strike = load.at(struck.at);
            world
                .until(&format!("{program} runs on {node} again"), SOON, async || {
                    let now = program.on(world.provider.as_ref(), &node)?;
                    let new = now.iter().filter(|process| !before.contains(process)).count();
                    ensure!(new > 0, "no new one among {} processes", now.len());
                    ensure!(now.len() >= before.len(), "{} of {} run", now.len(), before.len());
                    Ok(())
                })
                .await
                .with_context(|| format!("after {words}{}", world.picture()))?;
            led(world, killed)
                .await
                .with_context(|| format!("after {words}"))?;
            steady::calm(world, &load, REPLICAS as usize, SOON)
                .await
                .with_context(|| format!("after {words}"))?;
            state::again(world, &undisturbed, SOON)
                .await
                .with_context(|| format!("after {words}"))?;
            rows.push(Row {
                words,
                strike,
                over: load.clock(),
            });
        }
    }
    let seen = load.end().await?;
    let mut lost = 0;
    for row in &rows {
        let share = judge::share(&judge::during(&seen.entries, row.strike, row.over));
        let seconds = |time: Option<Duration>| {
            time.map_or_else(
                || "never".to_owned(),
                |time| format!("{:.1} s", time.as_secs_f64()),
            )
        };
        lost += share.bad;
        anstream::println!(
            "    {}: {} of {} requests lost, first success after {}, all replicas after {}, as before after {:.1} s",
            row.words,
            share.bad,
            share.all,
            seconds(judge::first_success(&seen.entries, row.strike)),
            seconds(full_capacity(
                &seen.samples,
                REPLICAS as usize,
                row.strike,
                row.over
            )),
            row.over.saturating_sub(row.strike).as_secs_f64()
        );
    }
    anstream::println!(
        "    {lost} of {} requests lost through {} kills; {}",
        seen.entries.len(),
        rows.len(),
        seen.file.display()
    );
    steady::nothing_wrong(&seen.entries)
}

/// Waits until an operator decides what happens: a cluster that nobody looks after is as it was for ever.
async fn led(world: &World, since: Timestamp) -> Result<()> {
    world
        .until("an operator leads", SOON, async || {
            let lease: Lease = world.namespaced(SYSTEM, "afterglow-operator").await?;
            let renewed = lease.spec.and_then(|spec| spec.renew_time);
            ensure!(
                renewed.as_ref().is_some_and(|time| time.0 > since),
                "its lease was renewed at {renewed:?}"
            );
            Ok(())
        })
        .await
        .with_context(|| world.picture())
}
