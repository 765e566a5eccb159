//! `afterglow-e2e`: start a cluster, run the stories on it, remove it.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use afterglow_e2e::demo;
use afterglow_e2e::kind::Kind;
use afterglow_e2e::kubeconfig::Kubeconfig;
use afterglow_e2e::local::{Ends, Local};
use afterglow_e2e::provider::Provider;
use afterglow_e2e::runner::{self, Run};
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
    /// Do something to a node: pull its plug, cut its cable.
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
        /// Only stories whose name holds these words.
        #[arg(long)]
        only: Option<String>,
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
            };
        }
        Verb::Down => return local.destroy(),
        Verb::Run {
            provider,
            only,
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
            return runner::run(tools, provider, Run { only, keep, reuse }).await;
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
