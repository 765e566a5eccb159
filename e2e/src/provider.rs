//! What the stories need of a cluster beyond its kubeconfig.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;

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
}
