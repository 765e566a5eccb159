//! Which device a new replica goes to: `(fleet, wish) → placement or every reason why not`.
//!
//! Filter with reasons, then score what is left. Nothing that runs is moved by this function: it is asked once per replica
//! that is wanted and does not exist. It never promises memory that is promised already.

use std::collections::{BTreeMap, BTreeSet};

/// The nodes and what is on them, as the caller knows them now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fleet {
    /// By name.
    pub nodes: BTreeMap<String, Node>,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Labels of the Kubernetes node.
    pub labels: BTreeMap<String, String>,
    /// Why nothing new may go here: cordoned, agent silent, …; `None` if it may.
    pub closed: Option<Closed>,
    /// By name.
    pub devices: BTreeMap<String, Device>,
}

/// Why nothing new goes to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// `spec.unschedulable` of the GpuNode or of the Kubernetes node.
    Cordoned,
    /// Its agent has not renewed its lease.
    Silent,
    /// It is being deleted.
    Leaving,
}

/// A device.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Card or processor.
    pub kind: Kind,
    /// The card's generation, as the CRD spells it, e.g. `Polaris`.
    pub family: String,
    /// Bytes of memory in all.
    pub memory: u64,
    /// Whether it passed its self-test and is healthy; else why not.
    pub offered: Result<(), String>,
    /// GFLOP/s as measured at the start; 0 = not measured.
    pub gflops: u64,
    /// What is on it or on its way to it.
    pub residents: Vec<Resident>,
}

/// Card or processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A graphics card.
    Gpu,
    /// A processor that stands in for one.
    Cpu,
}

/// A replica on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// `NAMESPACE/NAME` of its ModelDeployment.
    pub deployment: String,
    /// Digest of the model's file.
    pub digest: String,
    /// Bytes that are set aside for it: what was promised, or what was measured where that is more.
    pub memory: u64,
}

/// A replica that is wanted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wish {
    /// `NAMESPACE/NAME` of its ModelDeployment.
    pub deployment: String,
    /// Digest of the model's file.
    pub digest: String,
    /// Bytes it needs: measured on this kind of device if it was, else asked for, else estimated.
    pub memory: u64,
    /// Families that will do; empty = any.
    pub families: BTreeSet<String>,
    /// Labels the node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Whether a processor will do.
    pub cpu_allowed: bool,
    /// Devices on which this very revision was tried and failed, with the reason: not again.
    pub failed_on: BTreeMap<(String, String), String>,
    /// Median microseconds of one row, where a probe measured this model on a device (by node and device).
    pub measured: BTreeMap<(String, String), u64>,
}
