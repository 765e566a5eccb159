//! How busy the engine is: what schedulers pick a replica by.

use std::time::Duration;

/// How busy one model is, right now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelLoad {
    /// Engine name.
    pub name: String,
    /// Whether it answers.
    pub ready: bool,
    /// Requests that wait.
    pub waiting: usize,
    /// Requests that run.
    pub running: usize,
    /// Rows that wait.
    pub waiting_rows: usize,
    /// Rows that a run may hold; 1 = requests run alone.
    pub max_batch_size: usize,
    /// Mean time of the last runs; zero before the first.
    pub run_time: Duration,
    /// Runs since it was loaded.
    pub runs: u64,
}
