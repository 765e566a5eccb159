//! etcd, on the loopback of the control plane's own network.

use anyhow::Result;

use super::network::CONTROL_PLANE;
use super::process::{self, Ends};
use super::state::State;
use crate::tools::Tools;

pub(super) fn start(tools: &Tools, state: &State, ends: Ends) -> Result<()> {
    let call = [
        "nsenter".to_owned(),
        format!("--net=/run/netns/{CONTROL_PLANE}"),
        tools.program("etcd"),
        "--name=e".to_owned(),
        format!("--data-dir={}", state.path("etcd")),
        "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-advertise-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-cluster=e=http://127.0.0.1:2380".to_owned(),
        // Nothing here outlives the machine: waiting for the disk would only slow the tests.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    let call: Vec<&str> = call.iter().map(String::as_str).collect();
    process::start(tools, state, "etcd", ends, &call).map(drop)
}
