//! What was asked, when, and what the API server said to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::call::{Call, Verb};

/// A request that was made.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What was asked.
    pub call: Call,
    /// When.
    pub at: Instant,
    /// What the API server said, whether the operator heard it or not; `None`: it was not asked, or has not answered.
    pub said: Option<u16>,
    /// When the operator had its answer, or gave up waiting.
    pub ended: Option<Instant>,
}

impl Entry {
    /// Whether it was carried out.
    pub fn is_done(&self) -> bool {
        self.said.is_some_and(|code| code < 300)
    }
}

/// All of them, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub struct Record(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    all: Vec<Entry>,
    /// When somebody outside last did something that the operator will answer with writes.
    disturbed: Option<Instant>,
}

/// How often each object was made and deleted.
pub type Counts = BTreeMap<(Verb, String), usize>;

impl Record {
    pub(super) fn begin(&self, call: Call) -> Open {
        let mut entries = self.lock();
        entries.all.push(Entry {
            call,
            at: Instant::now(),
            said: None,
            ended: None,
        });
        Open {
            record: self.clone(),
            index: entries.all.len() - 1,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are: where what comes next begins.
    pub fn mark(&self) -> usize {
        self.lock().all.len()
    }

    /// Those from a mark on.
    pub fn since(&self, mark: usize) -> Vec<Entry> {
        self.lock().all.iter().skip(mark).cloned().collect()
    }

    /// The writes from a mark on that are about something that somebody wants.
    pub fn work_since(&self, mark: usize) -> Vec<Entry> {
        let mut entries = self.since(mark);
        entries.retain(|entry| entry.call.is_work());
        entries
    }

    /// Quiet begins anew: something was done that will be answered with writes.
    pub fn disturb(&self) {
        self.lock().disturbed = Some(Instant::now());
    }

    /// How long nothing has been written, nor been done that asks for it.
    pub fn quiet_for(&self) -> Duration {
        let entries = self.lock();
        let last = entries
            .all
            .iter()
            .rev()
            .find(|entry| entry.call.is_work())
            .map(|entry| entry.at);
        last.max(entries.disturbed)
            .map_or(Duration::MAX, |last| last.elapsed())
    }

    /// How often each object was made and deleted since a mark. Events are counted nowhere: they are a courtesy.
    pub fn counts(&self, mark: usize) -> Counts {
        let mut counts = Counts::new();
        for entry in self.work_since(mark) {
            let verb = match (entry.call.verb, entry.said) {
                (Verb::Create | Verb::Apply, Some(201)) => Verb::Create,
                (Verb::Delete, Some(200 | 202)) => Verb::Delete,
                _ => continue,
            };
            if entry.call.is_of("events") {
                continue;
            }
            let count = counts.entry((verb, entry.call.object())).or_default();
            // A deletion that is asked for again carries the uid that it carried before, and changes nothing.
            *count = if verb == Verb::Delete { 1 } else { *count + 1 };
        }
        counts
    }
}

/// A request that has begun.
#[derive(Debug)]
pub(super) struct Open {
    record: Record,
    index: usize,
}

impl Open {
    /// Takes what the API server says, also when whoever asked has gone.
    pub(super) fn ear(&self) -> impl FnOnce(u16) + Send + 'static + use<> {
        let (record, index) = (self.record.clone(), self.index);
        move |code| record.lock().all[index].said = Some(code)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.record.lock().all[self.index].ended = Some(Instant::now());
    }
}
