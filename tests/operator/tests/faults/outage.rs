//! An API server that is away, or asks to be left alone.

use std::time::{Duration, Instant};

use afterglow_operator_tests::proxy::{Rule, Verb, What};
use afterglow_operator_tests::server::Server;
use afterglow_operator_tests::world::MODEL;
use anyhow::{Result, ensure};
use serde_json::json;

use crate::scene::{Scene, at_most_once_a_second, seconds};

/// Longer than an agent's silence may be: nobody is to be called dead for it.
const OUTAGE: Duration = Duration::from_secs(40);

/// OP8.
#[tokio::test]
async fn an_api_server_that_stops_blocks_no_call_kills_nobody_and_is_met_without_a_rush() -> Result<()> {
    let server = Server::start("op8")?;
    let scene = Scene::among(&server, "op8", 3, 2).await?;
    let mark = scene.proxy.record().mark();
    server.stop()?;
    tokio::time::sleep(OUTAGE).await;
    let back = scene.proxy.record().mark();
    server.go_on()?;
    let start = Instant::now();
    let first = tokio::time::Instant::now();
    // A call that hangs: the fake agents' own are not counted, they do not pass here.
    for entry in scene.proxy.record().since(mark) {
        if let (false, Some(ended)) = (
            entry.call.verb == Verb::Watch || entry.call.verb == Verb::List,
            entry.ended,
        ) {
            let took = ended.duration_since(entry.at);
            ensure!(
                took <= seconds(11),
                "{:?} {} hung for {} s",
                entry.call.verb,
                entry.call.object(),
                took.as_secs()
            );
        }
    }
    loop {
        // Its first answers may come late: the wish is repeated until it is taken.
        if scene.world.change(MODEL, json!({ "replicas": 3 })).await.is_ok() {
            break;
        }
        ensure!(start.elapsed() < seconds(30), "the API server does not come back");
    }
    scene.world.serves_within(MODEL, 3, seconds(30)).await?;
    println!("recovered after {} s", start.elapsed().as_secs());
    let rush = scene
        .proxy
        .record()
        .since(back)
        .iter()
        .filter(|entry| entry.at < first + seconds(1))
        .count();
    ensure!(rush <= 50, "{rush} requests in the first second");
    let deleted = scene.done(mark, Verb::Delete, "modelreplicas").len();
    ensure!(deleted == 0, "{deleted} replicas were deleted for it");
    scene.end().await
}

/// OP9, with 429 and with 503.
#[tokio::test]
async fn an_api_server_that_asks_to_be_left_alone_is_left_alone_and_nothing_stays_blocked() -> Result<()> {
    for code in [429, 503] {
        let scene = Scene::new(&format!("op9-{code}"), 2).await?;
        let world = &scene.world;
        let storm = scene.proxy.rule(Rule::to(
            |call| !call.is_of("leases"),
            What::Refuse(code, Some(2)),
        ));
        let mark = scene.proxy.record().mark();
        scene.proxy.cut_watches();
        world.change(MODEL, json!({ "replicas": 3 })).await?;
        world.deploy("other", 1, '2').await?;
        let length = seconds(20);
        tokio::time::sleep(length).await;
        storm.lift();
        let start = Instant::now();
        let asked = scene.proxy.record().since(mark);
        at_most_once_a_second(&asked, length.as_secs())?;
        world.serves_within(MODEL, 3, seconds(30)).await?;
        world.serves_within("other", 1, seconds(30)).await?;
        println!(
            "{code}: {} requests in {} s, at rest {} s after",
            asked.len(),
            length.as_secs(),
            start.elapsed().as_secs()
        );
        scene.end().await?;
    }
    Ok(())
}

/// Beside OP9: a leader without answers gives up, and leads again by itself.
#[tokio::test]
async fn a_storm_that_also_hits_the_lease_ends_a_term_and_not_the_operator() -> Result<()> {
    let scene = Scene::new("op9-lease", 1).await?;
    let storm = scene.proxy.rule(Rule::to(|_| true, What::Refuse(503, Some(1))));
    scene.proxy.cut_watches();
    scene
        .until("the operator has stopped leading", seconds(30), || {
            scene
                .operator
                .said()
                .is_ok_and(|said| said.contains("stops working"))
        })
        .await?;
    storm.lift();
    scene.world.change(MODEL, json!({ "replicas": 2 })).await?;
    scene.world.serves_within(MODEL, 2, seconds(30)).await?;
    scene.end().await
}
