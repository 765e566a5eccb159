//! Operator, agents and schedulers in one simulated cluster: virtual time, seeded faults, rules that hold after every event.
//!
//! What decides is our own code ([`afterglow_operator::steps`], [`afterglow_agent::host::phase`], [`afterglow_scheduler::steps`] and what
//! lies below them); what moves is modelled: the API server ([`api`]), processes, engines, Kubernetes. `docs/dev/simulation.md` says
//! which is which, and how to add a fault or a rule. A seed is a whole history, and the same seed is always the same one.
#![forbid(unsafe_code)]

pub mod agent;
pub mod api;
mod bug;
pub mod cache;
pub mod check;
pub mod client;
pub mod engine;
pub mod operator;
pub mod pods;
pub mod random;
pub mod resident;
pub mod scheduler;
pub mod script;
pub mod time;
pub mod trace;
pub mod world;

use std::collections::BTreeMap;

pub use bug::Bug;
pub use trace::Sight;

/// What came of a seed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Of all that happened.
    pub hash: u64,
    /// The first rule that was broken, if one was.
    pub violation: Option<String>,
    /// What was seen how often.
    pub sights: BTreeMap<Sight, u64>,
    /// Events.
    pub events: u64,
    /// Writes of our processes but for leases.
    pub writes: u64,
    /// Of them, those after the last fault.
    pub late_writes: u64,
    /// Seconds from the last fault to the last write.
    pub settled_after: u64,
    /// What happened, line by line, if that was asked for.
    pub lines: Vec<String>,
}

/// Lives through the history of `seed`, with `bug` planted. `keeps_lines`: every line of it is wanted.
pub fn run(seed: u64, bug: Option<Bug>, keeps_lines: bool) -> Outcome {
    let script = script::Script::new(seed);
    let calm = script.calm;
    let mut world = world::World::new(script, bug, keeps_lines);
    world.run();
    let (hash, sights, lines) = world.trace.end();
    Outcome {
        hash,
        violation: world.violation,
        sights,
        events: world.events,
        writes: world.writes,
        late_writes: world.late_writes,
        settled_after: world.last_write.saturating_sub(calm).as_secs(),
        lines,
    }
}
