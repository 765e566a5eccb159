//! What the stories need of a cluster beyond its kubeconfig.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::process::Process;

/// What can be done to an API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiServer {
    /// It stands still: its connections stay open and nobody answers.
    Stop,
    /// The end of that.
    Continue,
    /// Its answers pass through a thin pipe.
    Slow,
    /// The end of that.
    Quick,
    /// It is killed, and started anew with the same flags; ready when this returns.
    Restart,
}

/// A cluster, wherever it comes from. What a provider cannot do it refuses with its reason, and the story that needs it
/// is skipped with that reason, not passed.
pub trait Provider {
    /// `local`, `kind` or `kubeconfig`.
    fn name(&self) -> &'static str;

    /// Makes the cluster with so many nodes, and waits until all of them are Ready.
    fn create(&mut self, nodes: u8) -> Result<()>;

    /// Where its kubeconfig lies.
    fn kubeconfig(&self) -> PathBuf;

    /// An address of a node, for `NodePort`s.
    fn node_address(&self, node: &str) -> Result<IpAddr>;

    /// Where pods reach this process.
    fn host_address(&self) -> Result<IpAddr>;

    /// Makes an image archive known to every node.
    fn load(&mut self, archive: &Path) -> Result<()>;

    /// Runs a command in a node's own namespaces.
    fn exec(&self, node: &str, call: &[&str]) -> Result<String>;

    /// Everything on the node stops at once, as when its plug is pulled.
    fn power_cut(&mut self, node: &str) -> Result<()>;

    /// The node comes back after a power cut, with its disk as it was.
    fn reboot(&mut self, node: &str) -> Result<()>;

    /// The node comes back after a power cut as a new machine of the same name.
    fn replace(&mut self, node: &str) -> Result<()>;

    /// Nobody reaches the node and it reaches nobody.
    fn partition(&mut self, node: &str) -> Result<()>;

    /// The end of a partition.
    fn heal(&mut self, node: &str) -> Result<()>;

    /// Removes the cluster and everything that was made for it.
    fn destroy(&mut self) -> Result<()>;

    /// A second handle on the same cluster, for a thread of its own.
    fn twin(&self) -> Result<Box<dyn Provider + Send>> {
        bail!("a {} cluster has no faults: nobody could undo them", self.name())
    }

    /// Every process of a node, as this machine numbers them.
    fn processes(&self, node: &str) -> Result<Vec<Process>> {
        bail!(
            "the processes of {node} are not seen on a {} cluster",
            self.name()
        )
    }

    /// Does something to the API server.
    fn api_server(&mut self, what: ApiServer) -> Result<()> {
        bail!(
            "the API server of a {} cluster is not the harness's: no {what:?}",
            self.name()
        )
    }

    /// The folder on this machine that is the disk of a node's model cache.
    fn disk(&self, node: &str) -> Result<PathBuf> {
        bail!(
            "the disk of {node} is not seen from here on a {} cluster",
            self.name()
        )
    }

    /// Gives a node's model cache a new disk of so many megabytes, or the machine's own again; the node boots for it.
    fn small_disk(&mut self, node: &str, megabytes: Option<u32>) -> Result<()> {
        let _ = megabytes;
        bail!("{node} of a {} cluster keeps its disk", self.name())
    }

    /// The API server's record of who asked for what.
    fn audit_log(&self) -> Result<PathBuf> {
        bail!("a {} cluster keeps no audit log for the harness", self.name())
    }
}
