//! Runs the stories and says how they went, as test runners do.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum as _;
use kube::config::{KubeConfigOptions, Kubeconfig as KubeconfigFile};
use kube::{Client, Config};

use crate::images;
use crate::models::Models;
use crate::provider::Provider;
use crate::reference::Reference;
use crate::stories::{self, Set, Story};
use crate::tools::Tools;
use crate::world::World;

/// How to run them.
#[derive(Debug, Clone)]
pub struct Run {
    /// These sets of stories.
    pub sets: Vec<Set>,
    /// Only stories whose name holds these words, of whatever set.
    pub only: Option<String>,
    /// Leave the cluster as it is at the end.
    pub keep: bool,
    /// Take a cluster that is running, instead of a fresh one.
    pub reuse: bool,
    /// Whatever is left to chance follows from it.
    pub seed: u64,
}

/// Makes a cluster, tells the stories there, and removes it.
pub async fn run(tools: Tools, mut provider: Box<dyn Provider>, run: Run) -> Result<()> {
    let chosen = chosen(&run);
    if chosen.is_empty() {
        bail!("no story has that name; without --only all of a set run");
    }
    let started = Instant::now();
    let models = step("make the models", async { Models::make(&tools) }).await?;
    let reference = step("ask a server without a cluster", Reference::ask(&tools, &models)).await?;
    // The node that the polaris story needs joins with the others: its agent is another cluster's.
    let nodes = 4;
    if !run.reuse {
        step("start the cluster", async { provider.create(nodes) }).await?;
    }
    let mut world = World {
        client: client(provider.as_ref()).await?,
        tools,
        provider,
        models,
        reference,
        shim_loaded: false,
        seed: run.seed,
    };
    let failed = match prepare(&mut world, run.reuse).await {
        Ok(()) => tell(&mut world, &chosen).await,
        Err(error) => vec![format!("{error:#}")],
    };
    if !run.keep && !run.reuse {
        world.provider.destroy().context("remove the cluster")?;
    }
    anstream::println!(
        "\n{} stories passed, {} failed, in {:.0} s",
        chosen.len().saturating_sub(failed.len()),
        failed.len(),
        started.elapsed().as_secs_f64()
    );
    if !failed.is_empty() {
        bail!(
            "failed: {}; what the cluster said of itself is in {}",
            failed.join("; "),
            world.logs().display()
        );
    }
    Ok(())
}

/// A story that is named runs whatever set it belongs to.
fn chosen(run: &Run) -> Vec<Story> {
    let Some(words) = run.only.as_deref().map(|words| words.replace('_', " ")) else {
        return run.sets.iter().flat_map(|set| stories::of(*set)).collect();
    };
    Set::value_variants()
        .iter()
        .flat_map(|set| stories::of(*set))
        .filter(|story| story.name.contains(&words))
        .collect()
}

/// What the stories find: images on the nodes, models that pods can fetch.
async fn prepare(world: &mut World, reuse: bool) -> Result<()> {
    let host = world.provider.host_address()?;
    world.models.serve(host).await?;
    if reuse {
        return Ok(());
    }
    let mut archives = world.tools.images();
    // The shim's image is for one node, and the cards' driver is of no use to nodes without one.
    archives.retain(|path| {
        !path.ends_with("afterglow-agent-polaris-shim.tar") && !path.ends_with("afterglow-agent.tar")
    });
    if archives.is_empty() {
        bail!("target/images has no archives: run `make images` first");
    }
    if world.provider.name() == "kind" {
        archives.extend(images::base(&world.tools)?);
    }
    if world.provider.name() == "kubeconfig" {
        anstream::println!("images are not loaded: push them to where your nodes pull from");
        return Ok(());
    }
    step("load the images on every node", async {
        archives
            .iter()
            .try_for_each(|archive| world.provider.load(archive))
    })
    .await
}

async fn tell(world: &mut World, chosen: &[Story]) -> Vec<String> {
    let _ = std::fs::remove_dir_all(world.logs());
    let mut failed = Vec::new();
    for story in chosen {
        let started = Instant::now();
        anstream::println!("story {} …", story.name);
        let told = tokio::select! {
            told = tokio::time::timeout(LONGEST, (story.tell)(world)) => {
                told.unwrap_or_else(|_| bail!("it took longer than {} minutes", LONGEST.as_secs() / 60))
            }
            () = interrupted() => {
                failed.push(format!("{} (interrupted)", story.name));
                return failed;
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        match told {
            Ok(()) => anstream::println!("story {} … ok ({seconds:.1} s)", story.name),
            Err(error) => {
                anstream::println!("story {} … FAILED ({seconds:.1} s)\n    {error:#}", story.name);
                let folder = world.logs().join(story.name.replace(' ', "-"));
                if let Err(error) = world.dump(&folder) {
                    anstream::println!("    and the cluster could not be asked: {error:#}");
                }
                failed.push(story.name.clone());
            }
        }
    }
    failed
}

/// A story that hangs ends here.
const LONGEST: Duration = Duration::from_mins(40);

async fn interrupted() {
    // Without a handler for it the process would end at once, and what it made would stay.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A client with ends to its patience.
pub async fn client(provider: &dyn Provider) -> Result<Client> {
    let path = provider.kubeconfig();
    let file = KubeconfigFile::read_from(&path).with_context(|| format!("read {}", path.display()))?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("understand {}", path.display()))?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(15));
    Client::try_from(config).context("make a client for the cluster's API")
}

async fn step<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let started = Instant::now();
    anstream::println!("{what} …");
    let done = work.await.with_context(|| what.to_owned())?;
    anstream::println!("  {:.1} s", started.elapsed().as_secs_f64());
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sets: &[Set], only: Option<&str>) -> Vec<String> {
        let run = Run {
            sets: sets.to_vec(),
            only: only.map(str::to_owned),
            keep: false,
            reuse: false,
            seed: 0,
        };
        chosen(&run).into_iter().map(|story| story.name).collect()
    }

    #[test]
    fn a_story_that_is_named_runs_whatever_set_it_belongs_to() {
        let named = names(&[Set::Everyday], Some("whose_power_is_cut"));
        assert_eq!(named.len(), 1, "{named:?}");
        assert!(names(&[Set::Everyday], Some("no such story")).is_empty());
    }

    #[test]
    fn sets_are_told_one_after_the_other_and_share_no_story() {
        let (faults, soak) = (names(&[Set::Faults], None), names(&[Set::Soak], None));
        assert!(faults.iter().all(|name| !soak.contains(name)));
        assert_eq!(names(&[Set::Faults, Set::Soak], None), [faults, soak].concat());
    }
}
