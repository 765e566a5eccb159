//! What happened, line by line: a hash of it always, the lines themselves where somebody wants to read them.

use std::collections::BTreeMap;
use std::fmt::{Arguments, Write as _};

use crate::time::Time;

/// The record of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    line: String,
    lines: Option<Vec<String>>,
    sights: BTreeMap<Sight, u64>,
}

/// What must have been seen at least once in many seeds, or the simulation exercises nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// A process read its watch late.
    StaleWatch,
    /// A watch was told that too much was forgotten (410), and the list was read anew.
    Relist,
    /// Two operators led at once, as far as they knew.
    TwoLeaders,
    /// The lead went from one to another.
    NewLeader,
    /// The clock of the operator that leads jumped.
    ClockJumped,
    /// A deployment was called late: nothing got further for too long.
    Late,
    /// The operator took a node's agent for dead.
    NodeDeath,
    /// It came back.
    NodeReturn,
    /// The operator took a dead agent's finalizer off.
    Swept,
    /// A write met a newer version, or a name that was taken.
    Conflict,
    /// A write was done and its answer lost.
    AnswerLost,
    /// A process ended between two writes that belong together.
    CrashBetweenWrites,
    /// An engine died while models were on it.
    EngineDied,
    /// A load failed.
    LoadFailed,
    /// Nobody had room for a replica.
    NoDeviceFits,
    /// A replica of a newer revision was made.
    NewRevision,
    /// A deployment was deleted, its replicas with it.
    Collected,
    /// A device was handed over to a pod.
    HandedOver,
    /// A device that is to be lent waited for the engine that served from it to end.
    LendingWaits,
    /// A request was sent again.
    Retry,
    /// A request reached an engine that does not have the model any more.
    Missing,
    /// A request met a broken connection.
    Broken,
    /// A request could not be sent: there was no connection.
    Unsent,
    /// A request that everybody had refused waited for somebody to come (back), and somebody did.
    SecondChance,
    /// A request met an engine without room.
    Busy,
    /// A request was answered.
    Answered,
    /// A request was refused: nobody is ready, or all attempts failed.
    Refused,
}

impl Sight {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::StaleWatch,
        Self::Relist,
        Self::TwoLeaders,
        Self::NewLeader,
        Self::ClockJumped,
        Self::Late,
        Self::NodeDeath,
        Self::NodeReturn,
        Self::Swept,
        Self::Conflict,
        Self::AnswerLost,
        Self::CrashBetweenWrites,
        Self::EngineDied,
        Self::LoadFailed,
        Self::NoDeviceFits,
        Self::NewRevision,
        Self::Collected,
        Self::HandedOver,
        Self::LendingWaits,
        Self::Retry,
        Self::Missing,
        Self::Broken,
        Self::Unsent,
        Self::SecondChance,
        Self::Busy,
        Self::Answered,
        Self::Refused,
    ];
}

impl Trace {
    /// An empty one; `kept`: its lines are wanted.
    pub fn new(kept: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            line: String::new(),
            lines: kept.then(Vec::new),
            sights: BTreeMap::new(),
        }
    }

    /// Something happened.
    pub fn note(&mut self, now: Time, what: Arguments<'_>) {
        self.line.clear();
        let _ = write!(self.line, "{:>12.6} {what}", now.as_secs_f64());
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(self.line.clone());
        }
    }

    /// Something was seen.
    pub fn saw(&mut self, sight: Sight) {
        *self.sights.entry(sight).or_default() += 1;
    }

    /// Hash, sights and lines.
    pub fn end(self) -> (u64, BTreeMap<Sight, u64>, Vec<String>) {
        (self.hash, self.sights, self.lines.unwrap_or_default())
    }
}
