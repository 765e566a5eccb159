//! `afterglow-e2e`: start a cluster, run the stories on it, remove it.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use afterglow_e2e::demo;
use afterglow_e2e::faults::{self, Fault, Field, Program, Struck};
use afterglow_e2e::kind::Kind;
use afterglow_e2e::kubeconfig::Kubeconfig;
use afterglow_e2e::local::{Ends, Local};
use afterglow_e2e::provider::Provider;
use afterglow_e2e::runner::{self, Run};
use afterglow_e2e::stories::Set;
use afterglow_e2e::tools::Tools;
use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(
    about = "A real Kubernetes cluster on this machine, and the stories that must pass there",
    version
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start a cluster on this machine (as root); it stays until `down`.
    Up {
        /// How many nodes.
        #[arg(long, default_value_t = 3)]
        nodes: u8,
        /// Also load the images, install the chart and serve the quickstart's model.
        #[arg(long)]
        install: bool,
    },
    /// Load image archives on every node.
    Load {
        /// Archives, as images/build.sh writes them.
        archives: Vec<PathBuf>,
    },
    /// Have something go wrong, for a while; Ctrl-C ends it sooner.
    Fault {
        /// For how many seconds.
        #[arg(long = "for", value_name = "SECONDS", default_value_t = 30)]
        seconds: u64,
        /// What.
        #[command(subcommand)]
        fault: Fault,
    },
    /// Undo whatever is left of any fault.
    Heal,
    /// Print the faults that a seed plans for the cluster that runs.
    Plan {
        /// The seed.
        seed: u64,
        /// How many faults.
        #[arg(long, default_value_t = 18)]
        count: usize,
    },
    /// Do something to a node that lasts: pull its plug, cut its cable, give it a small disk.
    Node {
        /// What.
        #[arg(value_enum)]
        fate: Fate,
        /// Which one, e.g. `node2`.
        node: String,
    },
    /// Remove the cluster and everything that was made for it.
    Down,
    /// Run the stories.
    Run {
        /// Whose cluster.
        #[arg(long, value_enum, default_value_t = Whose::Local)]
        provider: Whose,
        /// Which stories; may be given several times.
        #[arg(long = "set", value_enum, default_value = "everyday")]
        sets: Vec<Set>,
        /// Only stories whose name holds these words, of whatever set.
        #[arg(long)]
        only: Option<String>,
        /// What is left to chance follows from it; without one, from the time.
        #[arg(long)]
        seed: Option<u64>,
        /// Leave the cluster as it is at the end.
        #[arg(long)]
        keep: bool,
        /// Take the cluster that is running, with what is installed there.
        #[arg(long)]
        reuse: bool,
    },
    /// Print what a shell needs to talk to the cluster.
    Env,
}

#[derive(Clone, Copy, ValueEnum)]
enum Fate {
    /// Everything on it stops at once.
    PowerCut,
    /// It starts again, with its disk as it was.
    Reboot,
    /// It starts again as a new machine of the same name.
    Replace,
    /// Nobody reaches it any more.
    Partition,
    /// The end of that.
    Heal,
    /// Its model cache gets an empty disk of 192 MiB; it boots for that.
    SmallDisk,
    /// Its model cache lies on the machine's disk again; it boots for that.
    OwnDisk,
}

#[derive(Clone, Copy, ValueEnum)]
enum Whose {
    /// One that is made here, from namespaces; needs root.
    Local,
    /// One that `kind` makes; needs docker.
    Kind,
    /// Yours: the one of $KUBECONFIG.
    Kubeconfig,
}

// The root future stays on the main thread, and so do the children that are to end with it.
#[tokio::main]
async fn main() -> ExitCode {
    match obey().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn obey() -> Result<()> {
    let arguments = Arguments::parse();
    let tools = Tools::find()?;
    let mut local = Local::new(tools.clone(), Ends::WhenTold);
    match arguments.verb {
        Verb::Up { nodes, install } => {
            if local.running() {
                local.grow(nodes)?;
            } else {
                local.create(nodes)?;
            }
            if install {
                return demo::serve(&tools, local).await;
            }
        }
        Verb::Load { archives } => {
            for archive in archives {
                let archive = archive
                    .canonicalize()
                    .with_context(|| format!("find {}", archive.display()))?;
                local.load(&archive)?;
            }
            return Ok(());
        }
        Verb::Node { fate, node } => {
            return match fate {
                Fate::PowerCut => local.power_cut(&node),
                Fate::Reboot => local.reboot(&node),
                Fate::Replace => local.replace(&node),
                Fate::Partition => local.partition(&node),
                Fate::Heal => local.heal(&node),
                Fate::SmallDisk => local.small_disk(&node, Some(192)),
                Fate::OwnDisk => local.small_disk(&node, None),
            };
        }
        Verb::Fault { seconds, fault } => return suffer(local, fault, seconds).await,
        Verb::Heal => {
            let nodes = names(&local);
            return faults::heal(&mut local, &nodes);
        }
        Verb::Plan { seed, count } => {
            plan(&local, seed, count);
            return Ok(());
        }
        Verb::Down => return local.destroy(),
        Verb::Run {
            provider,
            sets,
            only,
            seed,
            keep,
            reuse,
        } => {
            let ends = if keep || reuse {
                Ends::WhenTold
            } else {
                Ends::WithStarter
            };
            let provider: Box<dyn Provider> = match provider {
                Whose::Local => Box::new(Local::new(tools.clone(), ends)),
                Whose::Kind => Box::new(Kind::new(tools.target.join("kind"))),
                Whose::Kubeconfig => {
                    let file = std::env::var_os("KUBECONFIG").context("$KUBECONFIG names no cluster")?;
                    Box::new(Kubeconfig::new(file.into(), tools.program("kubectl")))
                }
            };
            let run = Run {
                sets,
                only,
                keep,
                reuse,
                seed: seed.unwrap_or_else(chance),
            };
            return runner::run(tools, provider, run).await;
        }
        Verb::Env => {}
    }
    anstream::println!(
        "export KUBECONFIG={} PATH={}:$PATH",
        local.kubeconfig().display(),
        tools.bin.display()
    );
    Ok(())
}

/// Strikes, and waits until that is over.
async fn suffer(mut local: Local, fault: Fault, seconds: u64) -> Result<()> {
    let lasts = Duration::from_secs(seconds);
    let mut struck = Struck::strike(fault, &mut local, lasts)?;
    if struck.fault.lasts() {
        anstream::println!(
            "{} has struck; it ends after {seconds} s, or with Ctrl-C",
            struck.fault
        );
    }
    tokio::select! {
        over = struck.over() => over.map(drop),
        told = tokio::signal::ctrl_c() => {
            told.context("wait for Ctrl-C")?;
            struck.undo().map(drop)
        }
    }
}

fn plan(local: &Local, seed: u64, count: usize) {
    let nodes = names(local);
    let processes: Vec<(Program, String)> = Program::ALL
        .iter()
        .flat_map(|program| program.whereabouts(local, &nodes))
        .collect();
    // As in the story: clients come in over the first, and the fourth serves nothing.
    let struck: Vec<String> = nodes
        .iter()
        .filter(|node| ["node2", "node3"].contains(&node.as_str()))
        .cloned()
        .collect();
    let field = Field {
        nodes: &struck,
        small_disks: &struck,
        processes: &processes,
    };
    for strike in faults::plan(seed, &field, count) {
        anstream::println!("{strike}");
    }
}

fn names(local: &Local) -> Vec<String> {
    local
        .nodes()
        .iter()
        .map(|number| format!("node{number}"))
        .collect()
}

/// A seed that nobody chose.
fn chance() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() % 1_000_000)
}
