//! The end of a cluster: everything that was made for it goes, and nothing that was there before. It may be called at any
//! time and any number of times; what a crash left is found by the records in the cluster's folder and by our own names.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::MOST_NODES;
use super::network::{BLACKHOLES, BRIDGE, CONTROL_PLANE, CONTROL_PLANE_VETH, namespace, pods, veth};
use super::node::{SYSCTLS, cut};
use super::state::State;
use crate::command::run;

pub(super) fn all(state: &State) -> Result<()> {
    for number in 1..=MOST_NODES {
        cut(state, number);
    }
    // The API server before etcd, or it waits for it.
    for name in [
        "kube-scheduler",
        "kube-controller-manager",
        "kube-apiserver",
        "etcd",
    ] {
        if let Some(process) = state.recorded(name) {
            process.end();
        }
    }
    for number in 1..=MOST_NODES {
        node(number);
        state.unmount(number)?;
    }
    gone(&["ip", "link", "del", CONTROL_PLANE_VETH]);
    gone(&["ip", "netns", "del", CONTROL_PLANE]);
    gone(&["ip", "link", "del", BRIDGE]);
    for network in BLACKHOLES {
        gone(&["ip", "route", "del", "blackhole", network]);
    }
    restore(state);
    // Folders that were not there before the first node, innermost first; one that holds something stays.
    let made = fs::read_to_string(state.path("made")).unwrap_or_default();
    for path in made.lines().rev() {
        let _ = fs::remove_dir(path);
    }
    state.remove()
}

/// What a node leaves on the machine when its processes are gone.
pub(super) fn node(number: u8) {
    let name = namespace(number);
    // The kernel takes its time over a namespace, and its end of the cable would keep the name until then.
    gone(&["ip", "link", "del", &veth(number)]);
    gone(&["ip", "netns", "del", &name]);
    gone(&["ip", "route", "del", &pods(number)]);
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        remove_cgroup(&hierarchy.path().join(&name));
    }
}

/// Left-over cgroups of a dead node would cost the next kubelet seconds each.
fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

/// The settings that the kubelets changed for the whole machine.
fn restore(state: &State) {
    let saved = fs::read_to_string(state.path("sysctls")).unwrap_or_default();
    for line in saved.lines() {
        if let Some((name, value)) = line.split_once(' ').filter(|(name, _)| SYSCTLS.contains(name)) {
            let _ = fs::write(format!("/proc/sys/{name}"), value);
        }
    }
}

/// Removes something by its name, which may be gone already.
fn gone(call: &[&str]) {
    let _ = run(call);
}
