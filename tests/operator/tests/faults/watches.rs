//! What the operator sees late, not at all, or no longer.

use std::time::{Duration, Instant};

use afterglow_crds::GpuNode;
use afterglow_operator_tests::oracles;
use afterglow_operator_tests::proxy::{Rule, Verb, What};
use afterglow_operator_tests::wait::{until, verdict};
use afterglow_operator_tests::world::{MODEL, REST};
use anyhow::{Result, bail, ensure};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::scene::{Scene, seconds};

/// OP4.
#[tokio::test]
async fn a_deployment_made_anew_between_two_events_adopts_no_replica_of_the_old_one() -> Result<()> {
    let scene = Scene::new("op4", 2).await?;
    let world = &scene.world;
    let held = scene.proxy.rule(Rule::to(
        |call| call.is_of("modeldeployments") && call.event.is_some(),
        What::Hold,
    ));
    world.undeploy(MODEL).await?;
    until("op4: the old deployment is gone", REST, async || {
        let old = world.deployments().get_opt(MODEL).await?;
        Ok(verdict(old.is_none(), || format!("{old:?}")))
    })
    .await?;
    world.deploy(MODEL, 1, '3').await?;
    let new = world.deployments().get(MODEL).await?.uid();
    // The operator sees the replicas go, and the old deployment as if it were still there.
    let mark = scene.proxy.record().mark();
    scene
        .until("the operator has acted upon what it sees", REST, || {
            scene
                .proxy
                .record()
                .work_since(mark)
                .iter()
                .any(|entry| entry.call.is_of("modelreplicas"))
        })
        .await?;
    held.lift();
    world.serves(MODEL, 1).await?;
    let replicas = world.replicas().list(&ListParams::default()).await?.items;
    for replica in &replicas {
        let owners: Vec<&String> = replica
            .owner_references()
            .iter()
            .map(|owner| &owner.uid)
            .collect();
        ensure!(
            owners == new.iter().collect::<Vec<_>>(),
            "{} belongs to {owners:?}",
            replica.name_any()
        );
        ensure!(
            replica.spec.model.source.digest.ends_with("333"),
            "{} serves the old model",
            replica.name_any()
        );
    }
    scene.end().await
}

/// OP5, first half.
#[tokio::test]
async fn a_watch_that_is_thirty_seconds_late_makes_nothing_twice() -> Result<()> {
    let scene = Scene::new("op5", 2).await?;
    let world = &scene.world;
    let held = scene.proxy.rule(Rule::to(
        |call| call.is_of("modelreplicas") && call.event.is_some(),
        What::Hold,
    ));
    let mark = scene.proxy.record().mark();
    world.change(MODEL, json!({ "replicas": 3 })).await?;
    // Twenty reconciles, while nothing is seen of what they did.
    let mut tick = tokio::time::interval(Duration::from_millis(1500));
    for turn in 0..20 {
        tick.tick().await;
        let patch = json!({ "metadata": { "annotations": { "test/turn": turn.to_string() } } });
        world
            .deployments()
            .patch(MODEL, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
    }
    ensure!(held.hits() > 0, "nothing was held");
    held.lift();
    world.serves(MODEL, 3).await?;
    let (made, deleted) = (
        scene.done(mark, Verb::Create, "modelreplicas").len(),
        scene.done(mark, Verb::Delete, "modelreplicas").len(),
    );
    ensure!((made, deleted) == (1, 0), "{made} made, {deleted} deleted");
    scene.end().await
}

/// OP5, second half: an API server that lags can tell old lists only to who lets it.
#[tokio::test]
async fn after_a_restart_every_list_is_the_newest_there_is() -> Result<()> {
    let mut scene = Scene::new("op5b", 1).await?;
    let mark = scene.proxy.record().mark();
    scene.operator.restart()?;
    afterglow_operator_tests::life::knows(&scene.proxy, mark).await?;
    let lists: Vec<_> = scene
        .proxy
        .record()
        .since(mark)
        .into_iter()
        .filter(|entry| entry.call.verb == Verb::List)
        .collect();
    ensure!(lists.len() >= 15, "{} lists", lists.len());
    for list in lists {
        ensure!(
            !list.call.may_be_old,
            "the list of {} may be an old one",
            list.call.object()
        );
    }
    scene.end().await
}

/// OP6: the API server itself says 410, as the watches begin before all that it remembers.
#[tokio::test]
async fn ten_times_410_in_a_row_end_in_a_list_and_the_news_arrive() -> Result<()> {
    let scene = Scene::new("op6", 1).await?;
    let world = &scene.world;
    let is_ours = |resource: &str| ["modelreplicas", "modeldeployments", "gpunodes"].contains(&resource);
    let rule = scene.proxy.rule(Rule::to_first(
        30,
        move |call| call.verb == Verb::Watch && is_ours(&call.resource),
        What::Rewind,
    ));
    let mark = scene.proxy.record().mark();
    let start = Instant::now();
    scene.proxy.cut_watches();
    world.change(MODEL, json!({ "replicas": 2 })).await?;
    scene
        .until("410 was said thirty times", REST, || rule.hits() >= 30)
        .await?;
    world
        .serves_within(MODEL, 2, REST.saturating_sub(start.elapsed()))
        .await?;
    println!(
        "seen {} s after ten 410 for each of three kinds",
        start.elapsed().as_secs()
    );
    // The last one of each kind may still be on its way.
    let lists = scene
        .proxy
        .record()
        .since(mark)
        .iter()
        .filter(|entry| entry.call.verb == Verb::List)
        .count();
    ensure!(lists >= 27, "{lists} lists: 410 was not what the API server said");
    scene.end().await
}

/// OP7.
#[tokio::test]
async fn connections_that_die_without_a_word_cost_forty_five_seconds_at_most() -> Result<()> {
    let scene = Scene::new("op7", 1).await?;
    // After a burst of wishes many connections rest, and each of them is dead as well.
    for number in 0..12 {
        scene.world.deploy(&format!("burst-{number}"), 0, '2').await?;
    }
    oracles::quiet(&scene.world, &scene.proxy, seconds(1)).await?;
    let mark = scene.proxy.record().mark();
    scene.proxy.freeze();
    let start = Instant::now();
    scene.world.change(MODEL, json!({ "replicas": 2 })).await?;
    scene
        .until("the update was seen", seconds(45), || {
            !scene.done(mark, Verb::Create, "modelreplicas").is_empty()
        })
        .await?;
    println!("seen after {} s", start.elapsed().as_secs());
    scene.world.serves(MODEL, 2).await?;
    scene.end().await
}

/// Beside OP4: what was done is not undone by news of before.
#[tokio::test]
async fn a_status_is_never_told_of_another_object_of_that_name() -> Result<()> {
    let scene = Scene::new("op4b", 1).await?;
    let world = &scene.world;
    let replicas = world.replicas().list(&ListParams::default()).await?.items;
    let Some(replica) = replicas.first() else {
        bail!("op4b: nothing serves");
    };
    let held = scene.proxy.rule(Rule::to(
        |call| (call.is_of("modeldeployments") || call.is_of("modelreplicas")) && call.event.is_some(),
        What::Hold,
    ));
    world.undeploy(MODEL).await?;
    until("op4b: the old deployment is gone", REST, async || {
        let old = world.deployments().get_opt(MODEL).await?;
        Ok(verdict(old.is_none(), || format!("{old:?}")))
    })
    .await?;
    world.deploy(MODEL, 0, '3').await?;
    // A turn of the old one, with something new to say: its card is to be lent, so another is to serve.
    let mark = scene.proxy.record().mark();
    let lend = async |devices: &[&String]| {
        let wish = Patch::Merge(json!({ "spec": { "lend": devices } }));
        let nodes: Api<GpuNode> = Api::all(world.admin.clone());
        let params = PatchParams::default();
        nodes.patch(&replica.spec.node_name, &params, &wish).await
    };
    lend(&[&replica.spec.device]).await?;
    let told = || {
        let mut told = scene.proxy.record().work_since(mark);
        told.retain(|entry| entry.call.verb == Verb::Apply && entry.call.is_of("modeldeployments"));
        told
    };
    scene
        .until("the operator has told of the old one", REST, || {
            told().iter().any(|entry| entry.said.is_some())
        })
        .await?;
    let answers: Vec<Option<u16>> = told().iter().map(|entry| entry.said).collect();
    ensure!(
        answers.iter().all(|said| said.is_none_or(|code| code == 409)),
        "of another object of its name it was told with {answers:?}"
    );
    let status = world.deployments().get(MODEL).await?.status;
    ensure!(status.is_none(), "it says {status:?}");
    held.lift();
    lend(&[]).await?;
    world.serves(MODEL, 0).await?;
    scene.end().await
}
