//! Which device a new replica goes to: `(fleet, wish) → placement or every reason why not`.
//!
//! Filter with reasons (`filter.rs`), then score what is left (`score.rs`). Nothing that runs is moved by this function: it is
//! asked once per replica that is wanted and does not exist, so a placement is stable by construction, and there is no
//! "better" one to look for later. It never promises memory that is promised already: who places several replicas adds each
//! to the fleet ([`Fleet::put`]) before asking for the next.

mod crowd;
mod filter;
#[cfg(test)]
mod properties;
mod rejected;
mod score;
#[cfg(test)]
mod tables;

pub use crowd::crowded_out;
pub use rejected::{Reason, Rejected, Rejection};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Whether it may be used; else why not: it failed its self-test, it is lent, …
    pub offered: Result<(), String>,
    /// GFLOP/s as measured at the start; 0 = not measured.
    pub gflops: u64,
    /// What is on it or on its way to it.
    pub residents: Vec<Resident>,
}

/// Card or processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A graphics card; it comes before a processor.
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

/// Where a replica goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The node.
    pub node: String,
    /// The device.
    pub device: String,
    /// Why this one, for people.
    pub because: String,
}

/// The best device for a wish, or why there is none.
///
/// ```
/// use afterglow_policy::place::{Device, Fleet, Kind, Node, Wish, place};
///
/// let card = |memory| Device {
///     kind: Kind::Gpu,
///     family: "Polaris".to_owned(),
///     memory,
///     offered: Ok(()),
///     gflops: 5_000,
///     residents: Vec::new(),
/// };
/// let mut fleet = Fleet::default();
/// for (name, memory) in [("node1", 4 << 30), ("node2", 8 << 30)] {
///     let devices = [("gpu-0".to_owned(), card(memory))].into();
///     fleet.nodes.insert(name.to_owned(), Node { devices, ..Node::default() });
/// }
/// let wish = Wish { deployment: "default/bert".to_owned(), memory: 6 << 30, ..Wish::default() };
///
/// let placement = place(&fleet, &wish).unwrap();
/// assert_eq!((placement.node.as_str(), placement.device.as_str()), ("node2", "gpu-0"));
///
/// fleet.put(&placement, &wish);
/// let rejected = place(&fleet, &wish).unwrap_err();
/// assert!(rejected.summary().starts_with("0 of 2 devices fit: 2 have too little free memory"));
/// ```
pub fn place(fleet: &Fleet, wish: &Wish) -> Result<Placement, Rejected> {
    let (fits, rejections) = filter::filter(fleet, wish);
    score::best(&fits, wish).ok_or(Rejected { reasons: rejections })
}

impl Fleet {
    /// Writes a placement down, so that its memory is not promised twice and the next replica goes elsewhere. Does nothing if
    /// the device is not in the fleet.
    ///
    /// ```
    /// use afterglow_policy::place::{Fleet, Placement, Wish};
    ///
    /// let nowhere = Placement { node: "n".into(), device: "d".into(), because: String::new() };
    /// let mut fleet = Fleet::default();
    /// fleet.put(&nowhere, &Wish::default());
    /// assert_eq!(fleet, Fleet::default());
    /// ```
    pub fn put(&mut self, placement: &Placement, wish: &Wish) {
        let device = self
            .nodes
            .get_mut(&placement.node)
            .and_then(|node| node.devices.get_mut(&placement.device));
        if let Some(device) = device {
            device.residents.push(Resident {
                deployment: wish.deployment.clone(),
                digest: wish.digest.clone(),
                memory: wish.memory,
            });
        }
    }
}

impl Device {
    /// Bytes that nothing was promised of.
    ///
    /// ```
    /// # use afterglow_policy::place::{Device, Kind, Resident};
    /// let resident = Resident { deployment: "a/b".into(), digest: String::new(), memory: 3 };
    /// let device = Device {
    ///     kind: Kind::Gpu,
    ///     family: String::new(),
    ///     memory: 8,
    ///     offered: Ok(()),
    ///     gflops: 0,
    ///     residents: vec![resident],
    /// };
    /// assert_eq!(device.free(), 5);
    /// ```
    pub fn free(&self) -> u64 {
        self.residents
            .iter()
            .fold(self.memory, |free, resident| free.saturating_sub(resident.memory))
    }
}
