//! What lies on a node, or stands in a status, is not what it should be.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use afterglow_crds::ModelReplica;
use afterglow_crds::condition::{READY, find};
use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::state;
use super::steady::{self, NAME};
use crate::faults::{Fault, Program, Struck};
use crate::load::{Seen, judge};
use crate::world::{SOON, SYSTEM, World};

const NODE: &str = "node3";
/// Room for a few small models and compiled kernels.
const MEGABYTES: u32 = 192;
/// The undo of a fault that a story forgets.
const LASTS: Duration = Duration::from_mins(10);
/// What waits ever longer may have waited five minutes when its cause goes.
const HEALED: Duration = Duration::from_mins(7);
/// How long a fault is watched for a crash loop.
const WATCHED: Duration = Duration::from_secs(40);
/// Starts in that time: 1, 2, 4, 8, 16 s apart, and as many again for two that start each other.
const MOST_STARTS: usize = 10;

pub(super) async fn a_full_disk_is_said_and_heals_by_itself(world: &mut World) -> Result<()> {
    prepare(world).await?;
    let load = steady::load(world, "full-disk", 10, 3).await?;
    let restarts = steady::restarts(world)?;
    let disk = Fault::FillDisk {
        node: NODE.to_owned(),
    };
    let struck = Struck::strike(disk, world.provider.as_mut(), LASTS)?;
    let mut wish = world.models.deployment("default", "latecomer", "increment", 1)?;
    wish["spec"]["requirements"] = json!({"nodeSelector": {"kubernetes.io/hostname": NODE}});
    world.apply(&[wish])?;
    let said = world
        .until("the replica says that the disk is full", SOON, async || {
            let (reason, message) = trouble(world, "latecomer").await?;
            ensure!(
                reason == "CacheFull" && message.contains("cache"),
                "it says {reason}: {message}"
            );
            Ok(message)
        })
        .await
        .with_context(|| world.picture())?;
    anstream::println!("    it says: {said}");
    no_crash_loop(world, restarts).await?;
    struck.undo()?;
    world
        .deployment_ready("default", "latecomer", 1, HEALED)
        .await
        .with_context(|| world.picture())?;
    world.kubectl(&["delete", "modeldeployment", "latecomer", "--timeout=120s"])?;
    steady::calm(world, &load, 3, SOON).await?;
    told(&load.end().await?)?;
    tidy(world).await
}

pub(super) async fn a_read_only_cache_is_said_and_heals_by_itself(world: &mut World) -> Result<()> {
    prepare(world).await?;
    let load = steady::load(world, "read-only", 10, 3).await?;
    let restarts = steady::restarts(world)?;
    let lock = Fault::LockDisk {
        node: NODE.to_owned(),
    };
    let struck = Struck::strike(lock, world.provider.as_mut(), LASTS)?;
    kill_engine(world)?;
    let said = world
        .until(
            "the replica says that the cache cannot be written",
            SOON,
            async || {
                let (reason, message) = trouble(world, NAME).await?;
                ensure!(
                    message.to_lowercase().contains("read-only"),
                    "it says {reason}: {message}"
                );
                Ok(format!("{reason}: {message}"))
            },
        )
        .await
        .with_context(|| world.picture())?;
    anstream::println!("    it says: {said}");
    no_crash_loop(world, restarts).await?;
    struck.undo()?;
    steady::calm(world, &load, 3, HEALED).await?;
    told(&load.end().await?)?;
    tidy(world).await
}

pub(super) async fn a_spoiled_model_is_never_served_and_heals_by_itself(world: &mut World) -> Result<()> {
    steady::serve(world, 3).await?;
    let load = steady::load(world, "spoiled-model", 10, 3).await?;
    let restarts = steady::restarts(world)?;
    let model = cached(world)?;
    let good = fs::read(&model).with_context(|| format!("read {}", model.display()))?;
    // One bit among the weights: it would load, and answer wrongly.
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    replace(&model, &bad)?;
    kill_engine(world)?;
    let began = Instant::now();
    world
        .until("the agent has brought another copy", SOON, async || {
            ensure!(
                fs::read(&model).is_ok_and(|now| now == good),
                "it lies there spoiled"
            );
            Ok(())
        })
        .await
        .with_context(|| world.picture())?;
    anstream::println!("    another copy after {:.1} s", began.elapsed().as_secs_f64());
    no_crash_loop(world, restarts).await?;
    steady::calm(world, &load, 3, HEALED).await?;
    told(&load.end().await?)
}

pub(super) async fn a_spoiled_status_is_put_right_by_its_owner(world: &mut World) -> Result<()> {
    steady::serve(world, 3).await?;
    steady::rolled_out(world)?;
    let load = steady::load(world, "spoiled-status", 10, 3).await?;
    let restarts = steady::restarts(world)?;
    let before = state::of(world)?;
    let replica = on_node(world, NAME).await?;
    let name = replica.metadata.name.unwrap_or_default();
    let nonsense = json!({
        "type": "Ready", "status": "False", "reason": "Nonsense", "message": "nobody knows",
        "lastTransitionTime": "2000-01-01T00:00:00Z",
    });
    let endpoint = json!({"grpc": "192.0.2.1:1", "http": "192.0.2.1:2", "model": "another"});
    let spoiled = [
        (
            format!("modelreplica/{name}"),
            json!({"conditions": [nonsense], "endpoint": endpoint}),
        ),
        (
            format!("gpunode/{NODE}"),
            json!({"conditions": [nonsense], "devices": [], "offered": 0}),
        ),
        (
            format!("modeldeployment/{NAME}"),
            json!({"conditions": [nonsense], "readyReplicas": 77, "revision": 0}),
        ),
        (
            "inferencecluster/default".to_owned(),
            json!({"conditions": [nonsense], "readyNodes": 0, "devices": 0}),
        ),
    ];
    // One after the other: whose owner looks only when something else has changed is found out.
    for (object, status) in spoiled {
        let patch = json!({"status": status}).to_string();
        let call = [
            "patch",
            &object,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ];
        world.kubectl(&call)?;
        let began = Instant::now();
        state::again(world, &before, SOON)
            .await
            .with_context(|| format!("after the status of {object} was spoiled"))?;
        anstream::println!(
            "    the status of {object} was right again after {:.1} s",
            began.elapsed().as_secs_f64()
        );
    }
    no_crash_loop(world, restarts).await?;
    steady::calm(world, &load, 3, SOON).await?;
    told(&load.end().await?)
}

/// Has the model served by every node, and gives one a small disk for its cache. What serves there holds its model fast: a
/// cache that is full makes room by letting go of what nobody uses.
async fn prepare(world: &mut World) -> Result<()> {
    steady::serve(world, 3).await?;
    steady::shelter(world, &[NODE])?;
    world.provider.small_disk(NODE, Some(MEGABYTES))?;
    steady::booted(world, NODE).await?;
    steady::answering(world, 3).await?;
    steady::serve(world, 3).await
}

/// Says what clients saw, and fails if an answer was wrong.
fn told(seen: &Seen) -> Result<()> {
    let share = judge::share(&seen.entries);
    anstream::println!(
        "    {} of {} requests were lost; {}",
        share.bad,
        share.all,
        seen.file.display()
    );
    steady::nothing_wrong(&seen.entries)
}

/// Gives the node its own disk back.
async fn tidy(world: &mut World) -> Result<()> {
    world.provider.small_disk(NODE, None)?;
    steady::booted(world, NODE).await
}

/// The deployment's replica on the node.
async fn on_node(world: &World, deployment: &str) -> Result<ModelReplica> {
    let replicas = world.replicas("default", deployment).await?;
    replicas
        .into_iter()
        .find(|replica| replica.spec.node_name == NODE)
        .with_context(|| format!("{deployment} has no replica on {NODE}"))
}

/// Reason and message of its replica on the node that is not Ready.
async fn trouble(world: &World, deployment: &str) -> Result<(String, String)> {
    let replica = on_node(world, deployment).await?;
    let conditions = replica.status.map(|status| status.conditions).unwrap_or_default();
    let ready = find(&conditions, READY).context("its replica has no condition yet")?;
    ensure!(ready.status == "False", "its replica is Ready");
    Ok((ready.reason.clone(), ready.message.clone()))
}

fn kill_engine(world: &mut World) -> Result<()> {
    let kill = Fault::Kill {
        program: Program::Engine,
        node: NODE.to_owned(),
    };
    kill.strike(world.provider.as_mut()).map(drop)
}

/// For a while no container of ours starts again, and engines start ever more rarely.
async fn no_crash_loop(world: &World, restarts: u64) -> Result<()> {
    let end = Instant::now() + WATCHED;
    world
        .until("the fault was watched", SOON, async || {
            ensure!(Instant::now() > end, "not for long enough");
            Ok(())
        })
        .await?;
    let now = steady::restarts(world)?;
    ensure!(
        now == restarts,
        "containers of ours had been started anew {restarts} times, and now {now} times{}",
        world.picture()
    );
    let since = format!("--since={}s", WATCHED.as_secs());
    let of = "app.kubernetes.io/component=agent";
    let log = world.kubectl(&["logs", "-n", SYSTEM, "-l", of, &since, "--tail=-1"])?;
    let starts: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("it is started again"))
        .collect();
    ensure!(
        starts.len() <= MOST_STARTS,
        "engines were started {} times in {} s: {}",
        starts.len(),
        WATCHED.as_secs(),
        starts[..3].join("; ")
    );
    Ok(())
}

/// The cached copy of the model on the node.
fn cached(world: &World) -> Result<PathBuf> {
    let digest = world.models.digest("perceptron")?;
    let hex = digest.trim_start_matches("sha256:");
    let path = world
        .provider
        .disk(NODE)?
        .join("trees/sha256")
        .join(hex)
        .join("model.onnx");
    ensure!(path.is_file(), "{} is no cached model", path.display());
    Ok(path)
}

/// A new file in the place of the old one: who has that open still reads what it was.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("spoiled");
    fs::write(&new, bytes).with_context(|| format!("write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("name {}", path.display()))
}
