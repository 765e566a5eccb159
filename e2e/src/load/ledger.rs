//! What became of every request, by the client's clock.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// How a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// REST over connections that are kept.
    Rest,
    /// REST over a connection of its own.
    RestAnew,
    /// gRPC over a connection that is kept.
    Grpc,
    /// gRPC over a connection of its own.
    GrpcAnew,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rest, Self::RestAnew, Self::Grpc, Self::GrpcAnew];
}

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Rest => "rest",
            Self::RestAnew => "rest-anew",
            Self::Grpc => "grpc",
            Self::GrpcAnew => "grpc-anew",
        })
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The answer of the standalone server.
    Right,
    /// Another answer.
    Wrong(String),
    /// No answer, or one that says no.
    Failed {
        /// The HTTP or gRPC status; empty where there was none.
        status: String,
        /// In words.
        why: String,
    },
    /// It was not even sent: so many were under way that the client gave up.
    Unsent,
}

/// One request. Times are since the load began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Counts from 0 in the order of the schedule.
    pub number: u64,
    /// How it was sent.
    pub way: Way,
    /// When it was to be sent, whatever the cluster was doing. Waits are counted from here.
    pub scheduled: Duration,
    /// When it was.
    pub sent: Duration,
    /// When its fate was known.
    pub done: Duration,
    /// What came of it.
    pub outcome: Outcome,
    /// Who answered, where the scheduler said so.
    pub replica: Option<String>,
    /// Connections that were tried for it. Only what was not sent is tried again.
    pub connects: u32,
}

impl Entry {
    /// Whether the right answer came.
    pub fn good(&self) -> bool {
        self.outcome == Outcome::Right
    }

    /// From when it should have been sent to when its fate was known.
    pub fn took(&self) -> Duration {
        self.done.saturating_sub(self.scheduled)
    }

    fn line(&self) -> Value {
        let (outcome, status, why) = match &self.outcome {
            Outcome::Right => ("right", "", ""),
            Outcome::Wrong(why) => ("wrong", "", why.as_str()),
            Outcome::Failed { status, why } => ("failed", status.as_str(), why.as_str()),
            Outcome::Unsent => ("unsent", "", ""),
        };
        json!({
            "number": self.number,
            "way": self.way.to_string(),
            "scheduled": self.scheduled.as_secs_f64(),
            "sent": self.sent.as_secs_f64(),
            "done": self.done.as_secs_f64(),
            "outcome": outcome,
            "status": status,
            "why": why,
            "replica": self.replica,
            "connects": self.connects,
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheduled, took) = (self.scheduled.as_secs_f64(), self.took().as_secs_f64());
        write!(
            formatter,
            "#{} {} at {scheduled:.2} s, {took:.2} s: ",
            self.number, self.way
        )?;
        match &self.outcome {
            Outcome::Right => formatter.write_str("right")?,
            Outcome::Wrong(why) => write!(formatter, "WRONG: {why}")?,
            Outcome::Failed { status, why } => write!(formatter, "failed {status} {why}")?,
            Outcome::Unsent => formatter.write_str("unsent: too many under way")?,
        }
        match &self.replica {
            Some(replica) => write!(formatter, " [{replica}]"),
            None => Ok(()),
        }
    }
}

/// The entries so far; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Vec<Entry>>>);

impl Ledger {
    pub(super) fn add(&self, entry: Entry) {
        self.lock().push(entry);
    }

    /// A copy, in the order of the schedule.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = self.lock().clone();
        entries.sort_by_key(|entry| entry.number);
        entries
    }

    /// A copy of those that were scheduled from then on.
    pub fn since(&self, from: Duration) -> Vec<Entry> {
        let entries = self.lock();
        let mut found: Vec<Entry> = entries
            .iter()
            .filter(|entry| entry.scheduled >= from)
            .cloned()
            .collect();
        drop(entries);
        found.sort_by_key(|entry| entry.number);
        found
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing was asked yet.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a JSON object a line.
pub fn write(entries: &[Entry], path: &Path) -> Result<()> {
    let mut text = String::new();
    for entry in entries {
        writeln!(text, "{}", entry.line())?;
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_the_order_of_the_schedule_whenever_they_ended() {
        let ledger = Ledger::default();
        for number in [2, 0, 1] {
            ledger.add(Entry {
                number,
                way: Way::Rest,
                scheduled: Duration::from_secs(number),
                sent: Duration::from_secs(number),
                done: Duration::from_secs(number + 1),
                outcome: Outcome::Right,
                replica: None,
                connects: 1,
            });
        }
        let numbers: Vec<u64> = ledger.entries().iter().map(|entry| entry.number).collect();
        assert_eq!((numbers, ledger.len()), (vec![0, 1, 2], 3));
    }

    #[test]
    fn a_line_says_all_of_it() {
        let entry = Entry {
            number: 7,
            way: Way::GrpcAnew,
            scheduled: Duration::from_millis(1500),
            sent: Duration::from_millis(1501),
            done: Duration::from_secs(2),
            outcome: Outcome::Failed {
                status: "Unavailable".to_owned(),
                why: "no replica".to_owned(),
            },
            replica: Some("default/steady-1-abcde".to_owned()),
            connects: 2,
        };
        let line = entry.line();
        assert_eq!(line["scheduled"], 1.5);
        assert_eq!(
            (line["outcome"].as_str(), line["status"].as_str()),
            (Some("failed"), Some("Unavailable"))
        );
        let shown = entry.to_string();
        assert!(
            shown.starts_with("#7 grpc-anew at 1.50 s, 0.50 s: failed Unavailable no replica"),
            "{shown}"
        );
    }
}
