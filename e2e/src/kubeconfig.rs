//! A cluster that the user has: the stories run on it, and nothing is done to its nodes.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::output;
use crate::provider::Provider;

/// The cluster of `$KUBECONFIG`.
#[derive(Debug)]
pub struct Kubeconfig {
    file: PathBuf,
    kubectl: String,
}

impl Kubeconfig {
    /// The cluster that the file names.
    pub fn new(file: PathBuf, kubectl: String) -> Self {
        Self { file, kubectl }
    }
}

impl Provider for Kubeconfig {
    fn name(&self) -> &'static str {
        "kubeconfig"
    }

    fn create(&mut self, _nodes: u8) -> Result<()> {
        let file = self.file.to_string_lossy();
        output(&[&self.kubectl, "--kubeconfig", &file, "get", "nodes"])
            .map(drop)
            .context("ask the cluster of $KUBECONFIG for its nodes")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.file.clone()
    }

    fn node_address(&self, node: &str) -> Result<IpAddr> {
        let file = self.file.to_string_lossy();
        let path = "jsonpath={.status.addresses[?(@.type=='InternalIP')].address}";
        output(&[
            &self.kubectl,
            "--kubeconfig",
            &file,
            "get",
            "node",
            node,
            "-o",
            path,
        ])?
        .trim()
        .parse()
        .with_context(|| format!("read the address of {node}"))
    }

    fn host_address(&self) -> Result<IpAddr> {
        std::env::var("AFTERGLOW_E2E_HOST")
            .context("set AFTERGLOW_E2E_HOST to an address of this machine that the cluster's pods reach")?
            .parse()
            .context("read AFTERGLOW_E2E_HOST")
    }

    fn load(&mut self, archive: &Path) -> Result<()> {
        bail!(
            "{} cannot be loaded into a cluster of yours: push it to a registry that its nodes pull from",
            archive.display()
        )
    }

    fn exec(&self, node: &str, _call: &[&str]) -> Result<String> {
        refuse("run a command on", node)
    }

    fn power_cut(&mut self, node: &str) -> Result<()> {
        refuse("switch off", node)
    }

    fn reboot(&mut self, node: &str) -> Result<()> {
        refuse("switch on", node)
    }

    fn replace(&mut self, node: &str) -> Result<()> {
        refuse("replace", node)
    }

    fn partition(&mut self, node: &str) -> Result<()> {
        refuse("cut off", node)
    }

    fn heal(&mut self, node: &str) -> Result<()> {
        refuse("reconnect", node)
    }

    fn destroy(&mut self) -> Result<()> {
        Ok(()) // it was there before
    }
}

fn refuse<T>(what: &str, node: &str) -> Result<T> {
    bail!("will not {what} {node}: the cluster is yours, not the harness's")
}
