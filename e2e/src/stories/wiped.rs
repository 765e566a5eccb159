//! A node comes back as another machine.

use std::time::Duration;

use anyhow::{Context, Result};

use super::steady::{self, NODES};
use crate::faults::{Fault, Struck};
use crate::load::{full_capacity, judge};
use crate::world::{FIRST_START, World};

const NODE: &str = "node3";

pub(super) async fn a_node_that_comes_back_as_a_new_machine_serves_again(world: &mut World) -> Result<()> {
    let replicas = NODES.len();
    steady::serve(world, replicas as i32).await?;
    steady::shelter(world, &[NODE])?;
    let load = steady::load(world, "wiped", 10, replicas).await?;
    let wipe = Fault::Wipe {
        node: NODE.to_owned(),
    };
    let struck = Struck::strike(wipe, world.provider.as_mut(), Duration::ZERO)?;
    let strike = load.at(struck.at);
    // Its images are unpacked, its device is tested, its kernels are compiled: all of it anew.
    steady::calm(world, &load, replicas, FIRST_START)
        .await
        .with_context(|| format!("after {}", struck.fault))?;
    world
        .deployment_ready("default", steady::NAME, replicas as i32, FIRST_START)
        .await
        .with_context(|| world.picture())?;
    let seen = load.end().await?;
    let lost = judge::share(&judge::during(&seen.entries, strike, Duration::MAX));
    let full = full_capacity(&seen.samples, replicas, strike, Duration::MAX);
    anstream::println!(
        "    {} of {} requests lost; all replicas again after {:.1} s",
        lost.bad,
        lost.all,
        full.context("not all replicas answer at the end")?.as_secs_f64()
    );
    steady::nothing_wrong(&seen.entries)
}
