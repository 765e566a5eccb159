//! Why a wish fits nowhere, in words that say what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Closed, Kind};

/// Every device, and why it will not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejected {
    /// In the order of nodes and devices.
    pub reasons: Vec<Rejection>,
}

/// A device that will not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its node.
    pub node: String,
    /// Its name; `None` = the node has no devices at all.
    pub device: Option<String>,
    /// Why not.
    pub reason: Reason,
}

/// Why a device will not do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Nothing new goes to its node.
    Closed(Closed),
    /// Its node lacks a label.
    Selector {
        /// The label's key.
        key: String,
        /// The value that is wanted.
        value: String,
    },
    /// It is of another family.
    Family {
        /// Card or processor.
        kind: Kind,
        /// Its family.
        found: String,
        /// The families that will do.
        wanted: BTreeSet<String>,
    },
    /// It is a processor, and processors are not allowed.
    CpuNotAllowed,
    /// It is not available, for this reason: its node does not offer it, or the caller has closed it.
    NotOffered(String),
    /// This revision was tried there and failed, for this reason.
    FailedBefore(String),
    /// Too little of its memory is free.
    Memory {
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The node has no devices.
    NoDevice,
}

/// As many devices of a kind are named; the rest are counted.
const NAMED: usize = 3;

impl Rejected {
    /// One sentence, as `kubectl describe` shows it: how many devices fall out for which reason, which they are, and what to do.
    ///
    /// ```
    /// use afterglow_policy::place::{Fleet, Wish, place};
    ///
    /// let rejected = place(&Fleet::default(), &Wish::default()).unwrap_err();
    /// assert_eq!(
    ///     rejected.summary(),
    ///     "0 of 0 devices fit: no node of the cluster has reported any; see whether its agents run"
    /// );
    /// ```
    pub fn summary(&self) -> String {
        let devices = self
            .reasons
            .iter()
            .filter(|rejection| rejection.device.is_some())
            .count();
        if self.reasons.is_empty() {
            return "0 of 0 devices fit: no node of the cluster has reported any; see whether its agents run"
                .to_owned();
        }
        let mut groups: BTreeMap<Group, Vec<&Rejection>> = BTreeMap::new();
        for rejection in &self.reasons {
            groups
                .entry(Group::of(&rejection.reason))
                .or_default()
                .push(rejection);
        }
        let parts: Vec<String> = groups
            .iter()
            .map(|(group, members)| group.sentence(members))
            .collect();
        format!("0 of {devices} devices fit: {}", parts.join("; "))
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.summary())
    }
}

impl std::error::Error for Rejected {}

/// Reasons that are told together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Memory,
    FailedBefore,
    NotOffered,
    CpuNotAllowed,
    Family { kind: Kind, wanted: BTreeSet<String> },
    Selector { key: String, value: String },
    Closed(Closed),
    NoDevice,
}

impl Group {
    fn of(reason: &Reason) -> Self {
        match reason {
            Reason::Closed(closed) => Self::Closed(*closed),
            Reason::Selector { key, value } => Self::Selector {
                key: key.clone(),
                value: value.clone(),
            },
            Reason::Family { kind, wanted, .. } => Self::Family {
                kind: *kind,
                wanted: wanted.clone(),
            },
            Reason::CpuNotAllowed => Self::CpuNotAllowed,
            Reason::NotOffered(_) => Self::NotOffered,
            Reason::FailedBefore(_) => Self::FailedBefore,
            Reason::Memory { .. } => Self::Memory,
            Reason::NoDevice => Self::NoDevice,
        }
    }

    fn sentence(&self, members: &[&Rejection]) -> String {
        let count = members.len();
        let which = named(members);
        let nodes = nodes(members);
        // "is" or "are", "has" or "have".
        let be = if count == 1 { "is" } else { "are" };
        match self {
            Self::Memory => {
                let have = if count == 1 { "has" } else { "have" };
                format!("{count} {have} too little free memory ({which})")
            }
            Self::FailedBefore => {
                format!("{count} failed with this revision before ({which}); change the model to try again")
            }
            Self::NotOffered => format!("{count} {be} not available ({which})"),
            Self::CpuNotAllowed if count == 1 => {
                format!("1 is a CPU ({which}), which the InferenceCluster's cpuFallback forbids")
            }
            Self::CpuNotAllowed => {
                format!("{count} are CPUs ({which}), which the InferenceCluster's cpuFallback forbids")
            }
            Self::Family { kind, wanted } => {
                let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
                let what = match (kind, count) {
                    (Kind::Cpu, 1) => "is a CPU",
                    (Kind::Cpu, _) => "are CPUs",
                    (Kind::Gpu, 1) => "is a card of another family",
                    (Kind::Gpu, _) => "are cards of other families",
                };
                format!(
                    "{count} {what} ({which}), which the requirement families [{}] excludes",
                    wanted.join(", ")
                )
            }
            Self::Selector { key, value } => format!(
                "{count} {be} on nodes without the label {key}={value} that the requirement nodeSelector asks for ({nodes})"
            ),
            Self::Closed(Closed::Cordoned) => {
                format!("{count} {be} on cordoned nodes ({nodes}); uncordon them to use them")
            }
            Self::Closed(Closed::Silent) => {
                format!("{count} {be} on nodes whose agent is silent ({nodes}); see whether its pod runs")
            }
            Self::Closed(Closed::Leaving) => {
                format!("{count} {be} on nodes that are being deleted ({nodes})")
            }
            Self::NoDevice => {
                let (noun, have) = if count == 1 {
                    ("node", "has")
                } else {
                    ("nodes", "have")
                };
                format!("{count} {noun} {have} no devices ({nodes})")
            }
        }
    }
}

/// `node1/gpu-0: why, node2/gpu-0: why and 4 more`.
fn named(members: &[&Rejection]) -> String {
    let names = members.iter().map(|member| {
        let place = match &member.device {
            Some(device) => format!("{}/{device}", member.node),
            None => member.node.clone(),
        };
        match &member.reason {
            Reason::NotOffered(why) | Reason::FailedBefore(why) => format!("{place}: {why}"),
            Reason::Family {
                kind: Kind::Gpu,
                found,
                ..
            } => format!("{place}: {found}"),
            Reason::Memory { needed, free, total } => format!(
                "{place}: {} needed, {} of {} free, {} short",
                size(*needed),
                size(*free),
                size(*total),
                size(needed.saturating_sub(*free))
            ),
            _ => place,
        }
    });
    listed(names.collect())
}

/// The members' nodes, each once.
fn nodes(members: &[&Rejection]) -> String {
    let names: BTreeSet<&str> = members.iter().map(|member| member.node.as_str()).collect();
    listed(names.into_iter().map(str::to_owned).collect())
}

fn listed(names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let shown: Vec<String> = names.into_iter().take(NAMED).collect();
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Bytes as people say them; one that is needed and missing is never rounded to nothing.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        if bytes >> shift > 0 {
            let tenths = (u128::from(bytes) * 10) >> shift;
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}
