//! Engines: one process a device, which dies and is started again, and what is loaded in it.

use std::collections::BTreeMap;
use std::time::Duration;

use afterglow_agent::host;

use crate::time::Time;
use crate::trace::Sight;
use crate::world::{Event, World};

/// The first pause before an engine that died is started again; it doubles up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const SETTLED: Duration = Duration::from_mins(1);
/// An engine that nobody uses is stopped after this.
const IDLE: Duration = Duration::from_mins(1);

/// An engine, while its device has one.
#[derive(Debug)]
pub struct Engine {
    /// Tells this process from the one before.
    pub generation: u64,
    /// Whether there is a process.
    pub runs: bool,
    /// Whether it answers.
    pub is_up: bool,
    /// What it serves, by the name that it calls it.
    pub models: BTreeMap<String, Loaded>,
    died_of: Option<String>,
    pause: Duration,
    started: Time,
    idle_since: Time,
}

/// A model in an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The replica that it is.
    pub key: host::Key,
    /// Which object of that name.
    pub uid: Option<String>,
    /// The namespace of its clients.
    pub namespace: String,
    /// What clients call it.
    pub model: String,
    /// Its revision.
    pub revision: i64,
    /// What file it is.
    pub digest: String,
    /// What it takes of the device.
    pub memory: u64,
    /// Requests that run.
    pub running: u32,
}

/// What an engine does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It answers.
    Up,
    /// It is started again.
    Start,
}

impl World {
    /// A replica needs the engine of a device.
    pub(crate) fn want_engine(&mut self, node: usize, device: &str) {
        let now = self.now;
        let Some(card) = self.machines[node].card(device) else {
            return;
        };
        if self.machines[node].cards[card].engine.is_some() {
            return;
        }
        self.engines_made += 1;
        let generation = self.engines_made;
        self.machines[node].cards[card].engine = Some(Engine {
            generation,
            runs: false,
            is_up: false,
            models: BTreeMap::new(),
            died_of: None,
            pause: PAUSE,
            started: now,
            idle_since: now,
        });
        self.start_engine(node, card);
    }

    fn start_engine(&mut self, node: usize, card: usize) {
        self.engines_made += 1;
        let (now, generation) = (self.now, self.engines_made);
        let up = self.random.milliseconds(500, 4000);
        let Some(engine) = &mut self.machines[node].cards[card].engine else {
            return;
        };
        engine.generation = generation;
        engine.runs = true;
        engine.started = now;
        self.after(
            up,
            Event::Engine {
                node,
                card,
                generation,
                step: Step::Up,
            },
        );
    }

    /// What an engine does at its time.
    pub fn engine_step(&mut self, node: usize, card: usize, generation: u64, step: Step) {
        let Some(engine) = &mut self.machines[node].cards[card].engine else {
            return;
        };
        if engine.generation != generation {
            return;
        }
        match step {
            Step::Up if engine.runs => {
                engine.is_up = true;
                engine.died_of = None;
                let device = self.machines[node].cards[card].name.clone();
                crate::note!(self, "engine of node-{node}/{device} is up");
                self.engine_came_up(node, &device);
            }
            Step::Start if !engine.runs => self.start_engine(node, card),
            _ => {}
        }
    }

    /// Its process dies; the agent starts another.
    pub(crate) fn kill_engine(&mut self, node: usize, device: &str, why: &str) {
        let now = self.now;
        let Some(card) = self.machines[node].card(device) else {
            return;
        };
        let Some(engine) = &mut self.machines[node].cards[card].engine else {
            return;
        };
        if !engine.runs {
            return;
        }
        if !engine.models.is_empty() {
            self.trace.saw(Sight::EngineDied);
        }
        engine.runs = false;
        engine.is_up = false;
        engine.models.clear();
        engine.died_of = Some(why.to_owned());
        if now.saturating_sub(engine.started) >= SETTLED {
            engine.pause = PAUSE;
        }
        let (generation, pause) = (engine.generation, engine.pause);
        engine.pause = (pause * 2).min(LONGEST_PAUSE);
        crate::note!(self, "engine of node-{node}/{device} dies: {why}");
        self.after(
            pause,
            Event::Engine {
                node,
                card,
                generation,
                step: Step::Start,
            },
        );
        self.engine_was_lost(node, device, generation, why);
    }

    /// It ends with its agent, or because nobody needs it.
    pub(crate) fn end_engine(&mut self, node: usize, card: usize) {
        if self.machines[node].cards[card].engine.take().is_some() {
            crate::note!(self, "engine of node-{node}/gpu-{card} ends");
        }
    }

    /// The generation of the engine, if that answers.
    pub(crate) fn engine_up(&self, node: usize, device: &str) -> Option<u64> {
        let card = self.machines[node].card(device)?;
        let engine = self.machines[node].cards[card].engine.as_ref()?;
        engine.is_up.then_some(engine.generation)
    }

    /// What the last one died of, while there is no other.
    pub(crate) fn engine_died_of(&self, node: usize, device: &str) -> Option<String> {
        let card = self.machines[node].card(device)?;
        self.machines[node].cards[card].engine.as_ref()?.died_of.clone()
    }

    fn engine(&mut self, node: usize, device: &str) -> Option<&mut Engine> {
        let card = self.machines[node].card(device)?;
        self.machines[node].cards[card].engine.as_mut()
    }

    /// Loads a model; `false`: the device has too little memory.
    pub(crate) fn load_into_engine(
        &mut self,
        node: usize,
        device: &str,
        name: String,
        loaded: Loaded,
    ) -> bool {
        let Some(card) = self.machines[node].card(device) else {
            return false;
        };
        let memory = self.machines[node].cards[card].memory;
        let Some(engine) = self.engine(node, device) else {
            return false;
        };
        let taken: u64 = engine.models.values().map(|model| model.memory).sum();
        if taken + loaded.memory > memory {
            return false;
        }
        engine.models.insert(name, loaded);
        true
    }

    /// Whether requests run on a replica's model.
    pub(crate) fn runs_in_engine(&mut self, node: usize, device: &str, uid: Option<&String>) -> bool {
        self.engine(node, device).is_some_and(|engine| {
            engine
                .models
                .values()
                .any(|model| model.uid.as_ref() == uid && model.running > 0)
        })
    }

    /// The engine lets go of a replica's model.
    pub(crate) fn unload_from_engine(&mut self, node: usize, device: &str, uid: Option<&String>) {
        if let Some(engine) = self.engine(node, device) {
            engine.models.retain(|_, model| model.uid.as_ref() != uid);
        }
    }

    /// A replica has left: engines that nobody uses any more are idle from now on.
    pub(crate) fn engine_is_left(&mut self, node: usize) {
        let now = self.now;
        let machine = &mut self.machines[node];
        for card in &mut machine.cards {
            let used = users(machine.agent.as_ref(), &card.name);
            if let Some(engine) = card.engine.as_mut().filter(|_| !used) {
                engine.idle_since = now;
            }
        }
    }

    /// Stops engines that nobody has used for a while, or whose device is not offered any more.
    pub(crate) fn tidy(&mut self, node: usize) {
        for card in 0..self.machines[node].cards.len() {
            let machine = &self.machines[node];
            let (Some(agent), Some(engine)) = (&machine.agent, &machine.cards[card].engine) else {
                continue;
            };
            let name = &machine.cards[card].name;
            let offered = agent
                .usable
                .iter()
                .any(|device| device.name == *name && device.offered);
            let idle = self.now.saturating_sub(engine.idle_since) >= IDLE;
            if !users(Some(agent), name) && (!offered || idle) {
                self.end_engine(node, card);
            }
        }
    }
}

fn users(agent: Option<&crate::agent::Agent>, device: &str) -> bool {
    agent.is_some_and(|agent| {
        agent
            .residents
            .values()
            .any(|resident| resident.uses_engine && resident.device() == device)
    })
}
