//! A deployment's life, create, scale, update, delete, with a fault at one point of each stage; and the same life without.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::operator::{Operator, Setting};
use crate::oracles;
use crate::proxy::{Call, Counts, Proxy, Rule, Verb, What};
use crate::snapshot::Snapshot;
use crate::wait::{until, verdict};
use crate::world::{MODEL, REST, World};

/// So many lives are lived at once.
const SIDE_BY_SIDE: usize = 5;
/// No stage has as many points to strike at.
const MOST: u64 = 120;
/// A stage is over when nothing has been written for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// What happens, once in each stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// The operator is killed when its write number k has been carried out.
    KillAfterWrite,
    /// The answer to its write number k is lost.
    LoseReply,
    /// Its write number k is not carried out, and the API server says this status.
    RefuseWrite(u16),
    /// A watch breaks where the event number k would have come.
    LoseEvent,
}

/// A stage of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Create,
    Scale,
    Update,
    Delete,
}

const STAGES: [Stage; 4] = [Stage::Create, Stage::Scale, Stage::Update, Stage::Delete];

/// How a stage ended.
#[derive(Debug, Clone)]
pub struct End {
    snapshot: Snapshot,
    counts: Counts,
}

/// Lives a life for every k there is, and says how often it struck. Each stage of each life must end as it does without faults.
pub async fn strike_everywhere(prefix: &str, strike: Strike) -> Result<u64> {
    let reference = reference().await?;
    let mut lives = futures::stream::iter(1..=MOST)
        .map(|k| async move {
            let name = format!("{prefix}-{k:03}");
            let setting = Setting::default();
            let struck = Box::pin(live(&name, &setting, Some((strike, k)), Some(reference))).await;
            struck
                .map(|life| life.struck)
                .with_context(|| format!("{strike:?} at number {k}"))
        })
        .buffered(SIDE_BY_SIDE);
    let mut strikes = 0;
    while let Some(struck) = lives.next().await {
        let struck = struck?;
        if struck == 0 {
            // No stage has a point number k: all were tried.
            return Ok(strikes);
        }
        strikes += struck;
    }
    anyhow::bail!("a stage has more than {MOST} points: {strikes} strikes so far")
}

/// A life that has ended.
struct Life {
    ends: Vec<End>,
    /// How often it was struck.
    struck: u64,
    /// What its operator used, if it had little.
    used: Option<String>,
}

/// Lives a life in which nothing strikes, of an operator under conditions of its own. It must end as any other. Says what the
/// operator used, if it had little.
pub async fn live_in(name: &str, setting: &Setting) -> Result<Option<String>> {
    let reference = reference().await?;
    Ok(Box::pin(live(name, setting, None, Some(reference))).await?.used)
}

/// The life without faults.
async fn reference() -> Result<&'static [End]> {
    static REFERENCE: OnceCell<Vec<End>> = OnceCell::const_new();
    let ends = REFERENCE.get_or_try_init(|| async {
        anyhow::Ok(Box::pin(live("op0", &Setting::default(), None, None)).await?.ends)
    });
    Ok(ends.await.context("live without faults")?.as_slice())
}

async fn live(
    name: &str,
    setting: &Setting,
    strike: Option<(Strike, u64)>,
    reference: Option<&[End]>,
) -> Result<Life> {
    let world = World::new(name).await?;
    let proxy = world.proxy().await?;
    let mut operator = world.operator_in("operator", &proxy, setting.clone())?;
    let mut ends = Vec::new();
    let mut struck = 0;
    for (index, stage) in STAGES.into_iter().enumerate() {
        let mark = proxy.record().mark();
        let rule = strike.map(|(strike, k)| proxy.rule(rule(strike, k, &world.name)));
        wish(&world, stage).await.with_context(|| format!("{stage:?}"))?;
        proxy.record().disturb();
        let wanted = reference.and_then(|ends| ends.get(index));
        let settled = settle(&world, &proxy, stage, wanted);
        tokio::pin!(settled);
        let mut may_kill = strike.is_some_and(|(strike, _)| strike == Strike::KillAfterWrite);
        loop {
            tokio::select! {
                result = &mut settled => {
                    result.with_context(|| format!("{stage:?}"))?;
                    break;
                }
                () = proxy.halted(), if may_kill => {
                    may_kill = false;
                    restart(&proxy, &mut operator).await?;
                }
            }
        }
        operator
            .is_well()
            .with_context(|| format!("{}, {stage:?}", world.name))?;
        let mut counts = oracles::general(&world, &proxy.record().counts(mark));
        if stage == Stage::Delete {
            // Deployment and cluster go together: the operator and the garbage collector race for the replicas.
            counts.retain(|(_, object), _| !object.starts_with("modelreplicas"));
        }
        if let Some(wanted) = wanted {
            anyhow::ensure!(
                counts == wanted.counts,
                "{}, {stage:?}: made and deleted {counts:?}, and not {:?}",
                world.name,
                wanted.counts
            );
        }
        ends.push(End {
            snapshot: Snapshot::of(&world).await?,
            counts,
        });
        if let Some(rule) = rule {
            struck += u64::from(rule.hits() > 0);
            rule.lift();
        }
    }
    let used = operator.used()?;
    world.leave().await?;
    Ok(Life { ends, struck, used })
}

fn rule(strike: Strike, k: u64, world: &str) -> Rule {
    let what = match strike {
        Strike::KillAfterWrite => What::Halt,
        Strike::LoseReply => What::CutReply,
        Strike::RefuseWrite(code) => What::Refuse(code, None),
        Strike::LoseEvent => {
            let world = world.to_owned();
            let is_meant = move |call: &Call| !call.is_of("leases") && call.tells_of(&world);
            return Rule::to_nth(k, is_meant, What::Cut);
        }
    };
    Rule::to_nth(k, Call::is_work, what)
}

/// Kills the operator, starts it anew, and waits until it knows what there is.
async fn restart(proxy: &Proxy, operator: &mut Operator) -> Result<()> {
    operator.kill()?;
    let mark = proxy.record().mark();
    proxy.revive();
    operator.start_again()?;
    knows(proxy, mark).await?;
    proxy.record().disturb();
    Ok(())
}

/// Until an operator that was started at a mark has read everything.
pub async fn knows(proxy: &Proxy, mark: usize) -> Result<()> {
    until("the operator has read everything", REST, async || {
        let asked = proxy.record().since(mark);
        let watches = |resource: &str| {
            asked
                .iter()
                .any(|entry| entry.call.verb == Verb::Watch && entry.call.is_of(resource) && entry.is_done())
        };
        let kinds = [
            "daemonsets",
            "modelreplicas",
            "modeldeployments",
            "inferenceclusters",
            "clusterrolebindings",
        ];
        let missing: Vec<&str> = kinds.into_iter().filter(|kind| !watches(kind)).collect();
        Ok(verdict(missing.is_empty(), || {
            format!("it does not watch {missing:?}")
        }))
    })
    .await
}

async fn wish(world: &World, stage: Stage) -> Result<()> {
    match stage {
        Stage::Create => {
            world.make_cluster().await?;
            world.deploy(MODEL, 2, '1').await
        }
        Stage::Scale => world.change(MODEL, json!({ "replicas": 3 })).await,
        Stage::Update => {
            let digest = format!("sha256:{}", "2".repeat(64));
            world
                .change(MODEL, json!({ "model": { "source": { "digest": digest } } }))
                .await
        }
        Stage::Delete => {
            world.undeploy(MODEL).await?;
            world.delete_cluster().await
        }
    }
}

/// Until a stage is over, as it is over without faults.
async fn settle(world: &World, proxy: &Proxy, stage: Stage, wanted: Option<&End>) -> Result<()> {
    match stage {
        Stage::Create => {
            world.serves(MODEL, 2).await?;
            world.cluster_is_ready().await?;
        }
        Stage::Scale | Stage::Update => world.serves(MODEL, 3).await?,
        Stage::Delete => {
            until(
                &format!("{}: the cluster is gone", world.name),
                REST,
                async || {
                    let cluster = world.clusters().get_opt(&world.name).await?;
                    Ok(verdict(cluster.is_none(), || format!("{cluster:?}")))
                },
            )
            .await?;
        }
    }
    if let Some(wanted) = wanted {
        oracles::end_state(world, &wanted.snapshot, REST).await?;
    }
    oracles::quiet(world, proxy, PAUSE).await
}
