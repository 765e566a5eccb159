//! The cluster's DNS, as users have it: a Deployment and a Service in kube-system.

use std::path::Path;

use anyhow::{Context, Result};

use crate::command::{command, feed, output};
use crate::tools::Tools;

pub(super) fn install(tools: &Tools, kubeconfig: &Path) -> Result<()> {
    let kubeconfig = kubeconfig.to_string_lossy();
    let kubectl = tools.program("kubectl");
    let apply = command(&[&kubectl, "--kubeconfig", &kubeconfig, "apply", "-f", "-"]);
    feed(apply, include_str!("dns.yaml")).context("install the cluster's DNS")?;
    let wait = [
        &kubectl,
        "--kubeconfig",
        &kubeconfig,
        "-n",
        "kube-system",
        "rollout",
        "status",
        "deployment/coredns",
        "--timeout=90s",
    ];
    output(&wait).map(drop).context("wait for the cluster's DNS")
}
