//! Where something runs out: room in etcd, memory, time; and where there is much of everything.

use std::collections::BTreeSet;
use std::time::Instant;

use afterglow_operator_tests::life::live_in;
use afterglow_operator_tests::limits::Limits;
use afterglow_operator_tests::operator::Setting;
use afterglow_operator_tests::oracles;
use afterglow_operator_tests::proxy::{Entry, Verb};
use afterglow_operator_tests::server::Server;
use afterglow_operator_tests::wait::{Verdict, until, verdict};
use afterglow_operator_tests::world::{MODEL, World};
use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::json;

use crate::scene::{Scene, at_most_once_a_second, seconds};

/// OP27: an etcd of 16 MiB, of which the kinds and the roles take a few.
#[tokio::test]
async fn an_etcd_without_space_ends_nothing_is_not_hammered_and_all_goes_on_when_there_is_room() -> Result<()>
{
    let server = Server::start_within("op27", Some(16 << 20))?;
    let mut scene = Scene::among(&server, "op27", 3, 2).await?;
    let world = &scene.world;
    let fillers: Api<ConfigMap> = Api::namespaced(world.admin.clone(), &world.team);
    let mark = scene.proxy.record().mark();
    fill(&fillers).await?;
    let start = Instant::now();
    // Nothing that anybody wishes for can be written, but a deletion needs no space: the operator has something to put back.
    let wish = world.change(MODEL, json!({ "replicas": 3 })).await;
    let wish = wish.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(wish.contains(NO_SPACE), "the wish should have failed: {wish}");
    let services: Api<Service> = Api::namespaced(world.admin.clone(), &world.system);
    let service = format!("afterglow-{}", world.name);
    services
        .delete(&service, &DeleteParams::default())
        .await
        .context("delete the Service of the schedulers")?;
    let length = seconds(40);
    tokio::time::sleep(length).await;
    scene.operator.is_well()?;
    let asked = scene.proxy.record().since(mark);
    let writes: Vec<Entry> = asked
        .iter()
        .filter(|entry| entry.call.is_write())
        .cloned()
        .collect();
    let refused = writes.iter().filter(|entry| entry.said == Some(500)).count();
    let tries = |resource: &str| writes.iter().filter(|entry| entry.call.is_of(resource)).count();
    let read = asked
        .iter()
        .filter(|entry| !entry.call.is_write() && entry.is_done() && entry.at.elapsed() < seconds(5))
        .count();
    println!(
        "without space for {} s: {refused} of {} writes refused, {} of them for the Service and {} for the lease; {read} reads \
         in the last 5 s",
        start.elapsed().as_secs(),
        writes.len(),
        tries("services"),
        tries("leases")
    );
    ensure!(
        tries("services") > 0 && refused > 0,
        "the operator has tried nothing: this test shows nothing"
    );
    ensure!(read > 0, "it reads no more");
    at_most_once_a_second(&writes, start.elapsed().as_secs())?;

    fillers
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .context("delete what fills the store")?;
    server.store().make_room().await?;
    let room = Instant::now();
    until("op27: a wish is taken again", seconds(30), async || {
        world.change(MODEL, json!({ "replicas": 3 })).await?;
        Ok(Verdict::Yes(()))
    })
    .await?;
    world.serves_within(MODEL, 3, seconds(60)).await?;
    until("op27: the Service is back", seconds(60), async || {
        let there = services.get_opt(&service).await?.is_some();
        Ok(verdict(there, || "it is not".to_owned()))
    })
    .await?;
    ensure!(
        room.elapsed() <= seconds(60),
        "{} s after there was room",
        room.elapsed().as_secs()
    );
    println!("as wished {} s after there was room", room.elapsed().as_secs());
    let deleted = scene.done(mark, Verb::Delete, "modelreplicas").len();
    ensure!(deleted == 0, "{deleted} replicas were deleted for it");
    scene.end().await
}

/// What etcd says then, through the API server.
const NO_SPACE: &str = "database space exceeded";

/// Until the store takes no more.
async fn fill(fillers: &Api<ConfigMap>) -> Result<()> {
    for number in 0..200 {
        let filler = serde_json::from_value(json!({
            "metadata": { "name": format!("filler-{number}") }, "data": { "much": "x".repeat(500_000) },
        }))?;
        match fillers.create(&PostParams::default(), &filler).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.message.contains(NO_SPACE) => return Ok(()),
            Err(error) => return Err(error).context("fill the store"),
        }
    }
    bail!("etcd has taken 100 MB, and its quota is 16 MiB")
}

/// OP28: what the operator has to do with.
fn little() -> Setting {
    Setting {
        limits: Some(Limits {
            memory: 96,
            milliseconds: 20,
        }),
        ..Setting::default()
    }
}

/// OP28: the whole of the life of OP1 to OP3.
#[tokio::test]
async fn with_96_mib_and_a_fifth_of_a_processor_a_life_ends_as_any_other() -> Result<()> {
    let used = live_in("op28", &little()).await?;
    println!("{}", used.context("nothing was limited")?);
    Ok(())
}

/// Beside OP28: a life is little work, and this is much.
#[tokio::test]
async fn with_as_little_two_thousand_deployments_have_their_statuses_in_five_minutes() -> Result<()> {
    println!("{}", many("op28b", little(), 300, 96).await?);
    Ok(())
}

/// OP29.
#[tokio::test]
async fn two_thousand_deployments_at_the_start_have_their_statuses_in_two_minutes_and_128_mib() -> Result<()>
{
    println!("{}", many("op29", Setting::default(), 120, 128).await?);
    Ok(())
}

/// So many.
const MANY: usize = 2000;

/// Half of them suspended, one in a hundred served, and for the others there is no card. When the operator starts they are there;
/// after so many seconds each was told, and then nobody writes. Says what that took.
async fn many(world: &str, setting: Setting, limit: u64, most_memory: u64) -> Result<String> {
    let server = Server::start(world)?;
    let world = World::with_nodes(&server, world, 3).await?;
    world.make_cluster().await?;
    futures::stream::iter(0..MANY)
        .map(|number| make(&world, number))
        .buffer_unordered(8)
        .try_collect::<Vec<()>>()
        .await?;
    let proxy = world.proxy().await?;
    let start = Instant::now();
    let mut operator = world.operator_in("operator", &proxy, setting)?;
    until(
        &format!("{}: each was told", world.name),
        seconds(limit),
        async || {
            let told: BTreeSet<Option<String>> = proxy
                .record()
                .work_since(0)
                .into_iter()
                .filter(|entry| entry.call.is_of("modeldeployments") && entry.is_done())
                .map(|entry| entry.call.name)
                .collect();
            Ok(verdict(told.len() == MANY, || format!("{} were", told.len())))
        },
    )
    .await?;
    let told = start.elapsed();
    for number in (0..MANY).filter(|&number| is_served(number)) {
        world.serves(&name(number), 1).await?;
    }
    oracles::quiet(&world, &proxy, seconds(15)).await?;
    let list = world.deployments().list(&ListParams::default()).await?;
    let silent: Vec<String> = list
        .items
        .iter()
        .filter(|one| {
            let status = one.status.clone().unwrap_or_default();
            status.conditions.is_empty() || status.observed_generation != one.metadata.generation
        })
        .map(ResourceExt::name_any)
        .collect();
    ensure!(
        list.items.len() == MANY && silent.is_empty(),
        "of {} these say nothing: {silent:?}",
        list.items.len()
    );
    let memory = operator.peak_memory()?;
    ensure!(memory <= most_memory, "the operator had {memory} MiB");
    operator.is_well()?;
    let used = operator.used()?.unwrap_or_else(|| format!("{memory} MiB"));
    Ok(format!(
        "{MANY} were told {} s after the start, with {} writes in all; the operator had {used}",
        told.as_secs(),
        proxy.record().work_since(0).len()
    ))
}

fn name(number: usize) -> String {
    format!("many-{number}")
}

fn is_served(number: usize) -> bool {
    number % 100 == 1
}

async fn make(world: &World, number: usize) -> Result<()> {
    let name = name(number);
    let mut wish = world.wish(&name, 1, '1')?;
    wish.spec.suspend = number.is_multiple_of(2);
    if !wish.spec.suspend && !is_served(number) {
        wish.spec.requirements.memory = Some(Quantity("1Ti".to_owned()));
    }
    world
        .deployments()
        .create(&PostParams::default(), &wish)
        .await
        .with_context(|| format!("make the deployment {name}"))?;
    Ok(())
}
