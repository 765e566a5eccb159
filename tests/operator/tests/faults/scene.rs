//! A world with an operator in it and a model that serves: where most stories begin.

use std::collections::BTreeMap;
use std::time::Duration;

use afterglow_operator_tests::operator::Operator;
use afterglow_operator_tests::oracles;
use afterglow_operator_tests::proxy::{Entry, Proxy, Verb};
use afterglow_operator_tests::server::Server;
use afterglow_operator_tests::wait::{until, verdict};
use afterglow_operator_tests::world::World;
use anyhow::{Result, ensure};

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) proxy: Proxy,
    pub(crate) operator: Operator,
}

impl Scene {
    /// With three nodes and so many replicas, at rest.
    pub(crate) async fn new(name: &str, replicas: u32) -> Result<Self> {
        Self::among(Server::shared()?, name, 3, replicas).await
    }

    pub(crate) async fn among(server: &Server, name: &str, nodes: usize, replicas: u32) -> Result<Self> {
        let world = World::with_nodes(server, name, nodes).await?;
        let proxy = world.proxy().await?;
        let operator = world.operator("operator", &proxy)?;
        world.set_up(replicas).await?;
        oracles::quiet(&world, &proxy, Duration::from_secs(1)).await?;
        Ok(Self::of(world, proxy, operator))
    }

    /// One that was set up otherwise.
    pub(crate) fn of(world: World, proxy: Proxy, operator: Operator) -> Self {
        Self {
            world,
            proxy,
            operator,
        }
    }

    /// O3 and O5, and then the world is left.
    pub(crate) async fn end(mut self) -> Result<()> {
        oracles::quiet(&self.world, &self.proxy, Duration::from_secs(2)).await?;
        self.operator.is_well()?;
        drop(self.operator);
        self.world.leave().await
    }

    /// The writes of a verb on a kind since a mark that were carried out.
    pub(crate) fn done(&self, mark: usize, verb: Verb, resource: &str) -> Vec<Entry> {
        done(&self.proxy, mark, verb, resource)
    }

    /// Until a condition holds, at most so long.
    pub(crate) async fn until(&self, what: &str, limit: Duration, is_so: impl Fn() -> bool) -> Result<()> {
        until(&format!("{}: {what}", self.world.name), limit, async || {
            Ok(verdict(is_so(), || "it is not".to_owned()))
        })
        .await
    }
}

pub(crate) fn done(proxy: &Proxy, mark: usize, verb: Verb, resource: &str) -> Vec<Entry> {
    let mut entries = proxy.record().work_since(mark);
    entries.retain(|entry| entry.call.verb == verb && entry.call.is_of(resource) && entry.is_done());
    entries
}

/// Each object by itself; Events, whose names are never the same, together.
pub(crate) fn at_most_once_a_second(asked: &[Entry], seconds: u64) -> Result<()> {
    let mut times: BTreeMap<String, u64> = BTreeMap::new();
    for entry in asked {
        let object = if entry.call.is_of("events") {
            "events".to_owned()
        } else {
            entry.call.object()
        };
        *times.entry(object).or_default() += 1;
    }
    for (object, times) in times {
        ensure!(
            times <= seconds,
            "{object} was asked for {times} times in {seconds} s"
        );
    }
    Ok(())
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
