//! A node: its cgroups, its configuration, and the namespaces that it runs in.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::network::{namespace, pods};
use super::process::{self, Ends};
use super::state::{DISK, State};
use crate::command::output;
use crate::tools::Tools;

/// Hierarchies of cgroup v1 in which a node gets a root of its own, where they are mounted.
const HIERARCHIES: [&str; 11] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "systemd",
    "hugetlb",
    "perf_event",
];

/// What the kubelet sets for the whole machine, and what a cleanup puts back.
pub(super) const SYSCTLS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Starts a node on its disk: on an empty one a new machine, on an old one a reboot.
pub(super) fn start(
    tools: &Tools,
    state: &State,
    number: u8,
    ends: Ends,
    archives: &[PathBuf],
) -> Result<()> {
    remember(state)?;
    state.disk(number)?;
    mount_points(state)?;
    cgroups(number)?;
    configure(tools, state, number)?;
    let init = state.path("cfg/node-init.sh");
    fs::write(&init, include_str!("node-init.sh")).with_context(|| format!("write {init}"))?;
    let net = format!("--net=/run/netns/{}", namespace(number));
    let (digit, folder, bin) = (
        number.to_string(),
        state.folder().to_string_lossy().into_owned(),
        tools.bin.to_string_lossy().into_owned(),
    );
    // The fourth node is the one whose agent runs over another driver: a pool of its own.
    let pool = if number == 4 { "polaris" } else { "main" };
    let mut call = vec![
        "nsenter",
        &net,
        "unshare",
        "--mount",
        "--pid",
        "--uts",
        "--ipc",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation",
        "private",
        "bash",
        &init,
        &digit,
        &folder,
        &bin,
        pool,
    ];
    let archives: Vec<String> = archives
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    call.extend(archives.iter().map(String::as_str));
    let outer = process::start(tools, state, &format!("node{number}"), ends, &call)?;
    let first = outer.child().with_context(|| format!("start node{number}"))?;
    state.record(&format!("node{number}-init"), &first)
}

/// Everything on the node ends with its first process.
pub(super) fn cut(state: &State, number: u8) {
    if let Some(first) = state.recorded(&format!("node{number}-init")) {
        first.kill();
    }
    if let Some(outer) = state.recorded(&format!("node{number}")) {
        outer.kill();
    }
}

/// The node's first process on this machine: everything on it descends from that.
pub(super) fn first(state: &State, number: u8) -> Result<i32> {
    let first = state
        .recorded(&format!("node{number}-init"))
        .filter(process::Recorded::alive)
        .with_context(|| format!("node{number} does not run"))?;
    Ok(first.pid)
}

/// Runs a command in the node.
pub(super) fn exec(tools: &Tools, state: &State, number: u8, call: &[&str]) -> Result<String> {
    let pid = first(state, number)?.to_string();
    let path = format!("PATH={}", tools.path());
    let enter = ["nsenter", "-t", &pid, "-n", "-m", "-p", "-u", "-i", "env", &path];
    output(&[&enter, call].concat())
}

/// Makes an image archive known to the node.
pub(super) fn import(tools: &Tools, state: &State, number: u8, archive: &Path) -> Result<()> {
    let archive = archive.to_string_lossy();
    let call = [
        "ctr",
        "-a",
        "/run/containerd/containerd.sock",
        "-n",
        "k8s.io",
        "images",
        "import",
        "--local",
        &archive,
    ];
    exec(tools, state, number, &call).map(drop)
}

/// Notes the machine's own settings, once, before the first kubelet changes them.
fn remember(state: &State) -> Result<()> {
    if Path::new(&state.path("sysctls")).exists() {
        return Ok(());
    }
    let mut lines = String::new();
    for name in SYSCTLS {
        if let Ok(value) = fs::read_to_string(format!("/proc/sys/{name}")) {
            write!(lines, "{name} {value}")?; // the value ends its line
        }
    }
    state.write("sysctls", &lines)
}

/// Folders of the machine that the nodes mount their disks over; those that were not there are noted for the cleanup.
fn mount_points(state: &State) -> Result<()> {
    let note = state.path("made");
    let mut made = fs::read_to_string(&note).unwrap_or_default();
    for (_, target) in DISK {
        let mut missing: Vec<&Path> = Path::new(target)
            .ancestors()
            .take_while(|path| !path.exists())
            .collect();
        missing.reverse();
        for path in missing {
            fs::create_dir(path).with_context(|| format!("make {}", path.display()))?;
            writeln!(made, "{}", path.display())?;
        }
    }
    state.write("made", &made)
}

fn cgroups(number: u8) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let name = namespace(number);
    for hierarchy in HIERARCHIES.map(|hierarchy| root.join(hierarchy)) {
        if hierarchy.is_dir() {
            let own = hierarchy.join(&name);
            fs::create_dir_all(&own).with_context(|| format!("make {}", own.display()))?;
        }
    }
    let cpuset = root.join("cpuset");
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if cpuset.is_dir() {
            let value = fs::read_to_string(cpuset.join(file))
                .with_context(|| format!("read the machine's {file}"))?;
            fs::write(cpuset.join(&name).join(file), value)
                .with_context(|| format!("set {file} of {name}"))?;
        }
    }
    Ok(())
}

fn configure(tools: &Tools, state: &State, number: u8) -> Result<()> {
    let file = |name: &str| format!("node{number}/{name}");
    let mut disk = String::new();
    for (folder, target) in DISK {
        writeln!(disk, "{folder} {target}")?;
    }
    state.write(&file("disk.txt"), &disk)?;
    state.write(&file("containerd.toml"), &containerd(tools))?;
    let kubelet = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", namespace(number)),
        "failCgroupV1": false,
        "failSwapOn": false,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": state.path("pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "enforceNodeAllocatable": ["pods"],
        "makeIPTablesUtilChains": false,
        "protectKernelDefaults": false,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        // An imported image cannot be pulled again: none is ever removed.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // What is killed again and again is to be seen starting, not waiting for up to five minutes by Kubernetes' own rule.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "10s"},
        "nodeStatusUpdateFrequency": "5s",
        "nodeLeaseDurationSeconds": 40,
        "maxPods": 110,
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        // The machine's own resolver is of no use to pods: they have no way out.
        "resolvConf": state.path("cfg/resolv.conf"),
    });
    state.write("cfg/resolv.conf", "")?;
    state.write(&file("kubelet.yaml"), &kubelet.to_string())?;
    let proxy = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": "10.244.0.0/16",
        "clientConnection": {"kubeconfig": state.path("cfg/proxy.kubeconfig")},
        // Their sysctls cannot be written in a network namespace.
        "conntrack": {"maxPerCore": 0, "min": 0},
    });
    state.write(&file("kube-proxy.yaml"), &proxy.to_string())?;
    let network = json!({
        "cniVersion": "1.0.0",
        "name": "br",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": pods(number)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "loopback"},
        ],
    });
    state.write(&file("etccni/10-bridge.conflist"), &network.to_string())
}

fn containerd(tools: &Tools) -> String {
    let bin = tools.bin.display();
    format!(
        "version = 3
root = '/var/lib/containerd'
state = '/run/containerd'
grpc = {{ address = '/run/containerd/containerd.sock' }}
[plugins.'io.containerd.cri.v1.images']
snapshotter = 'overlayfs'
pinned_images = {{ sandbox = 'localhost/pause:1' }}
[plugins.'io.containerd.cri.v1.runtime']
enable_selinux = false
disable_apparmor = true
# Without CAP_SYS_RESOURCE runc may not lower a score, and dies of it.
restrict_oom_score_adj = true
cdi_spec_dirs = ['/etc/cdi', '/var/run/cdi']
cni = {{ bin_dirs = ['{bin}/cni'], conf_dir = '/etc/cni/net.d' }}
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
options = {{ BinaryName = '/usr/sbin/runc', SystemdCgroup = false }}
"
    )
}
