//! The cluster's folder: keys, configuration, logs, the nodes' disks, and a record of every process that was started, so
//! that another harness can end it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::process::Recorded;
use crate::command::{run, until};

/// Folders of a node's disk, and where the node sees them; in this order, as the first hides what lies below it.
pub(super) const DISK: [(&str, &str); 8] = [
    ("kubelet", "/var/lib/kubelet"),
    ("containerd", "/var/lib/containerd"),
    ("cni", "/var/lib/cni"),
    ("logpods", "/var/log/pods"),
    ("logcontainers", "/var/log/containers"),
    ("etccni", "/etc/cni/net.d"),
    ("etccdi", "/etc/cdi"),
    // The agents' cache: without a disk of its own each node would see the others' models.
    ("afterglow", "/var/lib/afterglow"),
];

/// `target/e2e/local`.
#[derive(Debug, Clone)]
pub(super) struct State {
    folder: PathBuf,
}

impl State {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn create(&self) -> Result<()> {
        for name in ["pki", "cfg", "log", "pid", "etcd"] {
            let path = self.folder.join(name);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        Ok(())
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(super) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("cfg/{user}.kubeconfig"))
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Makes the folders of a node's disk; what is there stays.
    pub(super) fn disk(&self, number: u8) -> Result<()> {
        for (name, _) in DISK {
            let path = self.folder.join(format!("node{number}/{name}"));
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        Ok(())
    }

    /// The disk of a node's model cache.
    pub(super) fn cache(&self, number: u8) -> PathBuf {
        self.folder.join(format!("node{number}/afterglow"))
    }

    /// Puts a small disk of its own in the place of a node's model cache. It outlives the node, as a disk does.
    pub(super) fn mount(&self, number: u8, megabytes: u32) -> Result<()> {
        self.unmount(number)?;
        let size = format!("size={megabytes}m,mode=755");
        let cache = self.cache(number);
        run(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            &size,
            "afterglow-small",
            &cache.to_string_lossy(),
        ])
    }

    /// Takes such a disk away again, where there is one.
    pub(super) fn unmount(&self, number: u8) -> Result<()> {
        let cache = self.cache(number).to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
        let mut ours = mounts
            .lines()
            .filter(|line| line.split(' ').nth(1) == Some(&cache));
        // At once, also while a dying process still uses it.
        ours.try_for_each(|_| run(&["umount", "-l", &cache]))
    }

    /// Empties a node's disk.
    pub(super) fn wipe(&self, number: u8) -> Result<()> {
        self.unmount(number)?;
        let path = self.folder.join(format!("node{number}"));
        fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))
    }

    /// Notes an image archive that every node has.
    pub(super) fn remember(&self, archive: &Path) -> Result<()> {
        let mut known = self.images();
        if !known.iter().any(|other| other == archive) {
            known.push(archive.to_owned());
        }
        let lines: Vec<_> = known.iter().map(|path| path.to_string_lossy()).collect();
        self.write("images", &lines.join("\n"))
    }

    /// Those archives, as far as they are still there.
    pub(super) fn images(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string(self.folder.join("images")).unwrap_or_default();
        text.lines()
            .map(PathBuf::from)
            .filter(|path| path.is_file())
            .collect()
    }

    /// Numbers of the nodes that have a disk.
    pub(super) fn nodes(&self) -> Vec<u8> {
        (1..=super::MOST_NODES)
            .filter(|number| self.folder.join(format!("node{number}")).is_dir())
            .collect()
    }

    /// The record of a process, if it was ever started.
    pub(super) fn recorded(&self, name: &str) -> Option<Recorded> {
        Recorded::parse(&fs::read_to_string(self.folder.join("pid").join(name)).ok()?)
    }

    pub(super) fn record(&self, name: &str, process: &Recorded) -> Result<()> {
        self.write(&format!("pid/{name}"), &process.to_string())
    }

    /// Names of the recorded processes that still run.
    pub(super) fn alive(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.folder.join("pid"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| self.recorded(name).is_some_and(|process| process.alive()))
            .collect();
        names.sort();
        names
    }

    /// Removes everything; what a dying process still writes is removed with the next try.
    pub(super) fn remove(&self) -> Result<()> {
        let what = format!("{} is gone", self.folder.display());
        until(&what, Duration::from_secs(30), || {
            match fs::remove_dir_all(&self.folder) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("remove {}", self.folder.display()))
                }
                _ => Ok(Some(())),
            }
        })
    }
}
