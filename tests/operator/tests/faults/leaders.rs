//! Two operators, of which one believes to lead and does not.

use afterglow_operator_tests::operator::{Clock, Operator};
use afterglow_operator_tests::oracles;
use afterglow_operator_tests::proxy::{Call, Entry, Proxy, Rule, Verb, What};
use afterglow_operator_tests::wait::{Verdict, until, verdict};
use afterglow_operator_tests::world::{MODEL, REST, World};
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;
use tokio::time::Instant;

use crate::scene::{done, seconds};

/// The leader, and who waits to become it.
struct Pair {
    world: World,
    proxies: [Proxy; 2],
    operators: [Operator; 2],
}

impl Pair {
    async fn new(name: &str, replicas: u32) -> Result<Self> {
        Self::with_clocks(name, replicas, [Clock::Right; 2]).await
    }

    async fn with_clocks(name: &str, replicas: u32, clocks: [Clock; 2]) -> Result<Self> {
        let world = World::new(name).await?;
        let proxies = [world.proxy().await?, world.proxy().await?];
        let first = world.operator_with("first", &proxies[0], clocks[0])?;
        world.set_up(replicas).await?;
        let second = world.operator_with("second", &proxies[1], clocks[1])?;
        oracles::quiet(&world, &proxies[0], seconds(1)).await?;
        Ok(Self {
            world,
            proxies,
            operators: [first, second],
        })
    }

    async fn leads(&self, identity: &str) -> Result<()> {
        let leases: Api<Lease> = Api::namespaced(self.world.admin.clone(), &self.world.system);
        until(
            &format!("{}: {identity} leads", self.world.name),
            seconds(40),
            async || {
                let lease = leases.get("afterglow-operator").await?;
                let holder = lease.spec.and_then(|spec| spec.holder_identity);
                Ok(verdict(holder.as_deref() == Some(identity), || {
                    format!("{holder:?} does")
                }))
            },
        )
        .await
    }

    async fn end(mut self) -> Result<()> {
        for (proxy, operator) in self.proxies.iter().zip(&mut self.operators) {
            oracles::quiet(&self.world, proxy, seconds(2)).await?;
            operator.is_well()?;
        }
        drop(self.operators);
        self.world.leave().await
    }
}

/// OP17.
#[tokio::test]
async fn a_leader_that_was_stopped_past_its_lease_writes_nothing_when_it_goes_on() -> Result<()> {
    let pair = Pair::new("op17", 1).await?;
    pair.operators[0].stop()?;
    pair.leads("second").await?;
    pair.world.change(MODEL, json!({ "replicas": 3 })).await?;
    pair.world.serves(MODEL, 3).await?;
    let mark = pair.proxies[0].record().mark();
    pair.operators[0].go_on()?;
    // It sees what has changed, and is told that another leads.
    until("op17: the first one notices", REST, async || {
        let said = pair.operators[0].said()?;
        Ok(verdict(said.contains("stops working"), || {
            "it has not noticed".to_owned()
        }))
    })
    .await?;
    oracles::quiet(&pair.world, &pair.proxies[0], seconds(3)).await?;
    let late: Vec<Entry> = pair.proxies[0]
        .record()
        .work_since(mark)
        .into_iter()
        .filter(|entry| entry.is_done() && !entry.call.is_of("events"))
        .collect();
    println!("{} late writes", late.len());
    let harmful: Vec<&Entry> = late
        .iter()
        .filter(|entry| matches!(entry.call.verb, Verb::Create | Verb::Delete))
        .collect();
    ensure!(harmful.is_empty(), "{harmful:?}");
    pair.world.serves(MODEL, 3).await?;
    pair.end().await
}

/// OP17: what a leader had under way when it was stopped is carried out long after.
async fn late(name: &str, which: fn(&Call) -> bool, before: u32, wish: u32, then: u32) -> Result<String> {
    let pair = Pair::new(name, before).await?;
    let world = &pair.world;
    let under_way = pair.proxies[0].rule(Rule::to_nth(1, which, What::Delay));
    let mark = pair.proxies[0].record().mark();
    world.change(MODEL, json!({ "replicas": wish })).await?;
    tokio::time::timeout(REST, under_way.struck())
        .await
        .context("nothing was under way")?;
    pair.operators[0].stop()?;
    pair.leads("second").await?;
    world.serves(MODEL, wish).await?;
    world.change(MODEL, json!({ "replicas": then })).await?;
    world.serves(MODEL, then).await?;
    oracles::quiet(world, &pair.proxies[1], seconds(1)).await?;
    under_way.lift();
    let answer = until("the late write is answered", REST, async || {
        let entries = pair.proxies[0].record().since(mark);
        let late = entries
            .into_iter()
            .find(|entry| which(&entry.call) && entry.said.is_some());
        Ok(late.map_or_else(
            || Verdict::NotYet("it is under way".to_owned()),
            |late| {
                Verdict::Yes(format!(
                    "{:?} {}: {:?}",
                    late.call.verb,
                    late.call.object(),
                    late.said
                ))
            },
        ))
    })
    .await?;
    pair.proxies[1].record().disturb();
    oracles::quiet(world, &pair.proxies[1], seconds(2)).await?;
    world.serves(MODEL, then).await?;
    let names = world.replica_names().await?;
    ensure!(names.len() == then as usize, "{names:?}");
    pair.operators[0].go_on()?;
    pair.end().await?;
    Ok(answer)
}

/// OP17.
#[tokio::test]
async fn a_replica_that_an_old_leader_makes_late_is_taken_away() -> Result<()> {
    let which = |call: &Call| call.verb == Verb::Create && call.is_of("modelreplicas");
    println!("{}", late("op17-create", which, 1, 2, 1).await?);
    Ok(())
}

/// OP17.
#[tokio::test]
async fn a_deletion_that_an_old_leader_sends_late_strikes_nothing_new() -> Result<()> {
    let which = |call: &Call| call.verb == Verb::Delete && call.is_of("modelreplicas");
    println!("{}", late("op17-delete", which, 2, 1, 2).await?);
    Ok(())
}

/// OP17.
#[tokio::test]
async fn a_status_that_an_old_leader_tells_late_is_put_right() -> Result<()> {
    let which = |call: &Call| call.is_of("modeldeployments") && call.part.as_deref() == Some("status");
    println!("{}", late("op17-status", which, 1, 2, 3).await?);
    Ok(())
}

/// OP17: the leader reaches everything but its lease.
#[tokio::test]
async fn a_leader_that_cannot_renew_stops_before_another_begins() -> Result<()> {
    let pair = Pair::new("op17-lease", 1).await?;
    let world = &pair.world;
    pair.proxies[0].rule(Rule::to(
        |call| call.is_of("leases") && call.is_write(),
        What::Refuse(500, None),
    ));
    let marks = [pair.proxies[0].record().mark(), pair.proxies[1].record().mark()];
    // Somebody always has something to do.
    let end = Instant::now() + seconds(25);
    let mut replicas = 1;
    while Instant::now() < end {
        replicas = replicas % 3 + 1;
        world.change(MODEL, json!({ "replicas": replicas })).await?;
        tokio::time::sleep(seconds(1)).await;
    }
    pair.leads("second").await?;
    world.serves(MODEL, replicas).await?;
    let work = |index: usize| pair.proxies[index].record().work_since(marks[index]);
    let last = work(0)
        .iter()
        .map(|entry| entry.at)
        .max()
        .context("the first wrote nothing")?;
    let first = work(1)
        .iter()
        .map(|entry| entry.at)
        .min()
        .context("the second wrote nothing")?;
    ensure!(
        last < first,
        "the first wrote {} ms after the second began",
        last.duration_since(first).as_millis()
    );
    println!(
        "{} ms between the last write of one and the first of the other",
        first.duration_since(last).as_millis()
    );
    ensure!(
        !done(&pair.proxies[1], marks[1], Verb::Apply, "modeldeployments").is_empty(),
        "the second did nothing"
    );
    pair.end().await
}

/// OP17: whoever waits has a clock that runs half as fast again, and whoever leads one that is ten years ahead.
#[tokio::test]
async fn clocks_that_are_wrong_take_no_lead_and_kill_no_agent() -> Result<()> {
    let pair = Pair::with_clocks("op17-clock", 2, [Clock::TenYearsAhead, Clock::Fast]).await?;
    let world = &pair.world;
    let marks = [pair.proxies[0].record().mark(), pair.proxies[1].record().mark()];
    // Twice as long as a lease lasts, in anybody's seconds.
    tokio::time::sleep(seconds(30)).await;
    pair.leads("first").await?;
    for (proxy, mark) in pair.proxies.iter().zip(marks) {
        let written = proxy.record().work_since(mark);
        ensure!(written.is_empty(), "{written:?}");
    }
    world.change(MODEL, json!({ "replicas": 3 })).await?;
    world.serves(MODEL, 3).await?;
    // Now the fast one leads, and half a minute of its agents' silence is twenty seconds of theirs.
    pair.operators[0].stop()?;
    pair.leads("second").await?;
    let mark = pair.proxies[1].record().mark();
    tokio::time::sleep(seconds(25)).await;
    ensure!(
        !pair.operators[1].said()?.contains("it counts as dead"),
        "an agent that lives was called dead"
    );
    let deleted = done(&pair.proxies[1], mark, Verb::Delete, "modelreplicas");
    ensure!(deleted.is_empty(), "{deleted:?}");
    world.serves(MODEL, 3).await?;
    pair.operators[0].go_on()?;
    pair.end().await
}
