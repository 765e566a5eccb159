//! `afterglow-e2e`: start a cluster, run the stories on it, remove it.
#![forbid(unsafe_code)]

use afterglow_e2e::local::{Ends, Local};
use afterglow_e2e::provider::Provider as _;
use afterglow_e2e::tools::Tools;
use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "A real Kubernetes cluster on this machine, and the stories that must pass there", version)]
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
    },
    /// Remove the cluster and everything that was made for it.
    Down,
    /// Print what a shell needs to talk to the cluster.
    Env,
}

fn main() -> Result<()> {
    let tools = Tools::find()?;
    let mut local = Local::new(tools.clone(), Ends::WhenTold);
    match Arguments::parse().verb {
        Verb::Up { nodes } => {
            if local.running() {
                local.grow(nodes)?;
            } else {
                local.create(nodes)?;
            }
        }
        Verb::Down => return local.destroy(),
        Verb::Env => {}
    }
    anstream::println!(
        "export KUBECONFIG={} PATH={}:$PATH",
        local.kubeconfig().display(),
        tools.bin.display()
    );
    Ok(())
}
