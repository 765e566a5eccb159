//! An open-loop client: requests go out by the clock, whatever became of the ones before, and each is written down: when it was
//! to be sent, when it was, when its fate was known, who answered, and whether with the standalone server's answer.

mod ask;
mod attempts;
mod capacity;
pub mod judge;
mod ledger;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use ask::Asker;
pub use ask::{DEADLINE, Entrance, Question};
pub use attempts::Attempts;
pub use capacity::{Sample, full_capacity};
pub use ledger::{Entry, Ledger, Outcome, Way, write};

use crate::world::World;

/// As many may be under way: far more than a healthy cluster lets wait, and an end to a client's memory.
const UNDER_WAY: usize = 512;
/// Of ten requests: four over kept REST connections, two over new ones, three over a kept gRPC connection, one over a new one.
const PATTERN: [Way; 10] = [
    Way::Rest,
    Way::Grpc,
    Way::Rest,
    Way::RestAnew,
    Way::Grpc,
    Way::Rest,
    Way::RestAnew,
    Way::Grpc,
    Way::Rest,
    Way::GrpcAnew,
];

/// What is asked, where, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of its ledger's file.
    pub name: String,
    /// Where requests enter.
    pub entrances: Vec<Entrance>,
    /// The `ModelDeployment`, in the cluster's default namespace.
    pub deployment: String,
    /// Asked in turn.
    pub questions: Vec<Question>,
    /// Requests a second.
    pub rate: u32,
}

/// A load under way; it ends when it is told to, or dropped.
#[derive(Debug)]
pub struct Load {
    name: String,
    folder: PathBuf,
    began: Instant,
    stop: CancellationToken,
    ledger: Ledger,
    attempts: Arc<Mutex<Attempts>>,
    samples: Arc<Mutex<Vec<Sample>>>,
    clients: Vec<JoinHandle<()>>,
}

/// Everything that a load saw.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Every request, in the order of the schedule.
    pub entries: Vec<Entry>,
    /// How many replicas answered, over time.
    pub samples: Vec<Sample>,
    /// What the schedulers counted.
    pub attempts: Attempts,
    /// Where the ledger was written.
    pub file: PathBuf,
}

impl Load {
    /// Begins.
    pub fn start(world: &World, plan: Plan) -> Result<Self> {
        ensure!(
            plan.rate > 0 && !plan.questions.is_empty() && !plan.entrances.is_empty(),
            "a load needs a rate, questions and entrances"
        );
        let asker = Asker::new(&plan.entrances, &plan.deployment, plan.questions)?;
        let (stop, ledger) = (CancellationToken::new(), Ledger::default());
        let (attempts, samples) = (Arc::default(), Arc::default());
        let began = Instant::now();
        let room = Arc::new(Semaphore::new(UNDER_WAY));
        let mut clients: Vec<JoinHandle<()>> = Way::ALL
            .into_iter()
            .map(|way| {
                let client = Client {
                    way,
                    began,
                    every: Duration::from_secs(1) / plan.rate,
                    asker: asker.clone(),
                    ledger: ledger.clone(),
                    room: Arc::clone(&room),
                };
                tokio::spawn(client.run(stop.clone()))
            })
            .collect();
        let looked = capacity::Looked {
            client: world.client.clone(),
            namespace: "default".to_owned(),
            deployment: plan.deployment,
            began,
        };
        clients.push(tokio::spawn(capacity::look(
            looked,
            Arc::clone(&samples),
            stop.clone(),
        )));
        clients.push(tokio::spawn(attempts::count(
            world.client.clone(),
            Arc::clone(&attempts),
            stop.clone(),
        )));
        Ok(Self {
            name: plan.name,
            folder: world.logs(),
            began,
            stop,
            ledger,
            attempts,
            samples,
            clients,
        })
    }

    /// Since the beginning: the clock of the ledger.
    pub fn clock(&self) -> Duration {
        self.began.elapsed()
    }

    /// The same for a moment that was noted.
    pub fn at(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.began)
    }

    /// Requests whose fate is known.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The last look at how many replicas answer.
    pub fn looked(&self) -> Option<Sample> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.last().copied()
    }

    /// What was seen so far, with the ledger written down.
    pub fn so_far(&self) -> Result<Seen> {
        let file = self.folder.join(format!("{}.jsonl", self.name));
        let entries = self.ledger.entries();
        ledger::write(&entries, &file)?;
        Ok(Seen {
            entries,
            samples: self
                .samples
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            attempts: *self.attempts.lock().unwrap_or_else(PoisonError::into_inner),
            file,
        })
    }

    /// Sends nothing more, waits for what is under way, and tells.
    pub async fn end(mut self) -> Result<Seen> {
        self.stop.cancel();
        for client in self.clients.drain(..) {
            client.await.context("wait for a client")?;
        }
        self.so_far()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.cancel();
        if !self.clients.is_empty() {
            // A story that failed: what its clients saw is half of the reason.
            let _ = self.so_far();
        }
    }
}

/// Sends the requests of one way.
struct Client {
    way: Way,
    began: Instant,
    every: Duration,
    asker: Asker,
    ledger: Ledger,
    room: Arc<Semaphore>,
}

impl Client {
    async fn run(self, stop: CancellationToken) {
        let mut open = JoinSet::new();
        let pattern = PATTERN.iter().cycle().zip(0_u64..);
        for number in pattern
            .filter(|(way, _)| **way == self.way)
            .map(|(_, number)| number)
        {
            let scheduled = due(self.every, number);
            let then = tokio::time::Instant::from_std(self.began + scheduled);
            if stop
                .run_until_cancelled(tokio::time::sleep_until(then))
                .await
                .is_none()
            {
                break;
            }
            while open.try_join_next().is_some() {}
            self.send(number, scheduled, &mut open);
        }
        open.join_all().await;
    }

    fn send(&self, number: u64, scheduled: Duration, open: &mut JoinSet<()>) {
        let sent = self.began.elapsed();
        let (way, began) = (self.way, self.began);
        let entry = move |answer: ask::Answer| Entry {
            number,
            way,
            scheduled,
            sent,
            done: began.elapsed(),
            outcome: answer.outcome,
            replica: answer.replica,
            connects: answer.connects,
        };
        let Ok(slot) = Arc::clone(&self.room).try_acquire_owned() else {
            self.ledger.add(entry(ask::Answer {
                outcome: Outcome::Unsent,
                replica: None,
                connects: 0,
            }));
            return;
        };
        let (asker, ledger) = (self.asker.clone(), self.ledger.clone());
        open.spawn(async move {
            ledger.add(entry(asker.ask(number, way).await));
            drop(slot);
        });
    }
}

/// When a request is to be sent.
fn due(every: Duration, number: u64) -> Duration {
    Duration::from_nanos((every.as_nanos() as u64).saturating_mul(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_a_straight_line() {
        let every = Duration::from_secs(1) / 20;
        assert_eq!(due(every, 0), Duration::ZERO);
        assert_eq!(due(every, 20), Duration::from_secs(1));
        assert_eq!(due(every, 20_000), Duration::from_secs(1000));
    }

    #[test]
    fn every_way_has_its_share_of_the_pattern() {
        let share = |way| PATTERN.iter().filter(|other| **other == way).count();
        assert_eq!(Way::ALL.map(share), [4, 2, 3, 1]);
    }
}
