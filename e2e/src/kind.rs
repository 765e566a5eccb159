//! Clusters of kind, for machines with docker. Not proven where this project is built: no docker runs there. Kept thin
//! enough to be read.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{output, run};
use crate::provider::Provider;

const CLUSTER: &str = "afterglow";

/// A cluster that `kind` made.
#[derive(Debug)]
pub struct Kind {
    folder: PathBuf,
}

impl Kind {
    /// Nothing is made yet; `folder` takes its files.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// kind calls its containers `afterglow-worker`, `afterglow-worker2`, …; the stories say `node1`, `node2`, ….
    fn container(node: &str) -> String {
        match node.trim_start_matches("node") {
            "1" => format!("{CLUSTER}-worker"),
            number => format!("{CLUSTER}-worker{number}"),
        }
    }
}

impl Provider for Kind {
    fn name(&self) -> &'static str {
        "kind"
    }

    fn create(&mut self, nodes: u8) -> Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let config = self.folder.join("kind.yaml");
        let mut text = String::from(
            "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n",
        );
        for number in 1..=nodes {
            text.push_str("- role: worker\n  labels:\n    afterglow.dev/pool: ");
            text.push_str(if number == 4 { "polaris\n" } else { "main\n" });
        }
        std::fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let kubeconfig = self.kubeconfig();
        run(&[
            "kind",
            "create",
            "cluster",
            "--name",
            CLUSTER,
            "--wait",
            "120s",
            "--config",
            &config.to_string_lossy(),
            "--kubeconfig",
            &kubeconfig.to_string_lossy(),
        ])
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    fn node_address(&self, node: &str) -> Result<IpAddr> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        output(&["docker", "inspect", "-f", format, &Self::container(node)])?
            .trim()
            .parse()
            .with_context(|| format!("read the address of {node}"))
    }

    fn host_address(&self) -> Result<IpAddr> {
        let format = "{{(index .IPAM.Config 0).Gateway}}";
        output(&["docker", "network", "inspect", "-f", format, "kind"])?
            .trim()
            .parse()
            .context("read the gateway of docker's network kind")
    }

    fn load(&mut self, archive: &Path) -> Result<()> {
        run(&[
            "kind",
            "load",
            "image-archive",
            "--name",
            CLUSTER,
            &archive.to_string_lossy(),
        ])
    }

    fn exec(&self, node: &str, call: &[&str]) -> Result<String> {
        output(&[&["docker", "exec", &Self::container(node)], call].concat())
    }

    fn power_cut(&mut self, node: &str) -> Result<()> {
        run(&["docker", "kill", &Self::container(node)])
    }

    fn reboot(&mut self, node: &str) -> Result<()> {
        run(&["docker", "start", &Self::container(node)])
    }

    fn replace(&mut self, node: &str) -> Result<()> {
        anyhow::bail!("kind cannot make {node} anew within a cluster")
    }

    fn partition(&mut self, node: &str) -> Result<()> {
        run(&["docker", "network", "disconnect", "kind", &Self::container(node)])
    }

    fn heal(&mut self, node: &str) -> Result<()> {
        run(&["docker", "network", "connect", "kind", &Self::container(node)])
    }

    fn destroy(&mut self) -> Result<()> {
        run(&["kind", "delete", "cluster", "--name", CLUSTER])
    }
}
