//! A replica on its node: fetch, probe, load, serve, drain. Which phase follows which, how long a failure waits and what is said
//! of it, is the agent's own code; how long the work takes and whether it works is the world's.

use std::time::Duration;

use afterglow_agent::fetch::{Failure, Retry};
use afterglow_agent::host::phase::{Event as Came, Phase, State, engine_failed};
use afterglow_agent::host::status::{View, status, trouble};
use afterglow_agent::host::{self, Reported, changes};
use afterglow_crds::ModelReplica;
use afterglow_crds::gpu_node::Device;
use afterglow_crds::model_replica::{Endpoint, Latency, ModelReplicaStatus, Profile};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as Stamp;

use crate::agent::Step;
use crate::bug::Bug;
use crate::engine::Loaded;
use crate::time::to_second;
use crate::trace::Sight;
use crate::world::World;

/// Schedulers hear of a deletion within this.
const HEARD: Duration = Duration::from_secs(2);
/// Requests that still run after so many looks are not waited for.
const LOOKS: u32 = 60;
const LOAD: Duration = Duration::from_mins(3);

/// A replica that an agent hosts.
#[derive(Debug)]
pub struct Resident {
    /// Which object of that name.
    pub uid: Option<String>,
    replica: ModelReplica,
    /// Where it stands.
    pub state: State,
    last: ModelReplicaStatus,
    profile: Option<Profile>,
    /// Of the engine that has it, or is asked to.
    generation: Option<u64>,
    /// Whether it keeps its device's engine running.
    pub uses_engine: bool,
    is_deleted: bool,
    job: u64,
    looks: u32,
    waits: Option<Waits>,
}

/// What a replica waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Device,
    Engine,
}

/// A part of a replica's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The pause after a failure is over.
    Begin,
    /// The phase's work is over.
    End,
    /// A look at whether anybody still asks for it.
    Look,
}

/// `NAMESPACE.NAME`: unique on every engine.
pub fn engine_name(key: &host::Key) -> String {
    format!("{}.{}", key.0, key.1)
}

impl World {
    /// What is wanted has changed, or something has ended.
    pub(crate) fn host_reconciles(&mut self, node: usize) {
        let Some(agent) = &mut self.machines[node].agent else {
            return;
        };
        let held = agent
            .residents
            .iter()
            .map(|(key, resident)| (key, resident.uid.as_ref()));
        let changes = changes(held, &agent.desired);
        let known: std::collections::BTreeSet<host::Key> = agent.desired.iter().map(host::key).collect();
        agent
            .statuses
            .retain(|key, _| known.contains(key) || agent.residents.contains_key(key));
        for key in changes.cancel {
            self.cancel(node, &key);
        }
        for replica in changes.release {
            let reported = Reported {
                uid: replica.metadata.uid.clone(),
                status: replica.status.clone().unwrap_or_default(),
                engine_released: true,
            };
            self.tell_of(node, host::key(&replica), reported);
        }
        for replica in changes.begin {
            let key = host::key(&replica);
            let resident = Resident {
                uid: replica.metadata.uid.clone(),
                state: State::default(),
                last: replica.status.clone().unwrap_or_default(),
                profile: replica.status.as_ref().and_then(|status| status.profile.clone()),
                replica,
                generation: None,
                uses_engine: false,
                is_deleted: false,
                job: 0,
                looks: 0,
                waits: None,
            };
            if let Some(agent) = &mut self.machines[node].agent {
                agent.residents.insert(key.clone(), resident);
            }
            self.drive(node, &key);
        }
    }

    fn resident(&mut self, node: usize, key: &host::Key) -> Option<&mut Resident> {
        self.machines[node].agent.as_mut()?.residents.get_mut(key)
    }

    fn cancel(&mut self, node: usize, key: &host::Key) {
        let early = self.bug == Some(Bug::ReleasesEarly);
        let Some(resident) = self.resident(node, key) else {
            return;
        };
        if resident.is_deleted {
            return;
        }
        resident.is_deleted = true;
        if early {
            let reported = Reported {
                uid: resident.uid.clone(),
                status: resident.last.clone(),
                engine_released: true,
            };
            self.tell_of(node, key.clone(), reported);
            self.drive_silently(node, key);
            return;
        }
        self.drive(node, key);
    }

    /// [`World::drive`] without a word, which would take back what was said too early.
    fn drive_silently(&mut self, node: usize, key: &host::Key) {
        self.happens(node, key, Came::Deleted, false);
    }

    /// Does what the phase asks for, until that takes time.
    fn drive(&mut self, node: usize, key: &host::Key) {
        let deleted = self.resident(node, key).is_some_and(|resident| {
            resident.is_deleted && !matches!(resident.state.phase, Phase::Draining | Phase::Released)
        });
        if deleted {
            self.happens(node, key, Came::Deleted, true);
            return;
        }
        self.begin_phase(node, key, true);
    }

    /// An event of the replica's life, and what follows from it.
    fn happens(&mut self, node: usize, key: &host::Key, came: Came, says: bool) {
        let Some(resident) = self.resident(node, key) else {
            return;
        };
        let old = std::mem::take(&mut resident.state);
        let was = old.phase;
        let is_failure = matches!(came, Came::Failed(_) | Came::EngineDied(_));
        resident.state = old.step(came);
        let phase = resident.state.phase;
        if is_failure && matches!(was, Phase::Fetching | Phase::Probing | Phase::Loading) {
            self.trace.saw(Sight::LoadFailed);
        }
        crate::note!(self, "node-{node} {}: {was:?} → {phase:?}", key.1);
        self.begin_phase(node, key, says);
    }

    fn begin_phase(&mut self, node: usize, key: &host::Key, says: bool) {
        let job = self.new_job(node);
        if says {
            self.tell(node, key);
        }
        let Some(resident) = self.resident(node, key) else {
            return;
        };
        resident.job = job;
        resident.waits = None;
        let step = |part| Step::Work(key.clone(), job, part);
        match resident.state.phase {
            Phase::Released => {
                if let Some(agent) = &mut self.machines[node].agent {
                    agent.residents.remove(key);
                }
                self.engine_is_left(node);
                self.host_reconciles(node);
                self.writes_soon(node);
            }
            Phase::Draining => {
                resident.looks = 0;
                self.agent_soon(node, HEARD, step(Part::Look));
            }
            Phase::Ready => {}
            Phase::Fetching | Phase::Probing | Phase::Loading => {
                if let Some(pause) = resident.state.pause() {
                    self.agent_soon(node, pause, step(Part::Begin));
                }
            }
        }
    }

    /// The next part of a replica's work is due.
    pub(crate) fn go_on(&mut self, node: usize, key: &host::Key, job: u64, part: Part) {
        let Some(resident) = self.resident(node, key) else {
            return;
        };
        if resident.job != job {
            return;
        }
        let phase = resident.state.phase;
        match (part, phase) {
            (Part::Begin, _) => self.begin_work(node, key),
            (Part::Look, _) => self.look(node, key),
            (Part::End, Phase::Fetching) => self.end_fetch(node, key),
            (Part::End, Phase::Probing) => self.end_probe(node, key),
            (Part::End, Phase::Loading) => self.end_load(node, key),
            (Part::End, _) => {}
        }
    }

    fn begin_work(&mut self, node: usize, key: &host::Key) {
        let (device, looked) = self.device_of(node, key);
        let Some(resident) = self.resident(node, key) else {
            return;
        };
        let name = resident.replica.spec.device.clone();
        if trouble(&name, device.as_ref(), looked).is_some() {
            resident.waits = Some(Waits::Device);
            self.tell(node, key);
            return;
        }
        resident.waits = None;
        let (phase, job) = (resident.state.phase, resident.job);
        self.tell(node, key);
        let wait = match phase {
            Phase::Fetching => self.random.seconds(1, 8),
            Phase::Probing => {
                self.uses_engine(node, key, &name);
                self.random.seconds(2, 5)
            }
            _ => {
                self.uses_engine(node, key, &name);
                let Some(generation) = self.engine_up(node, &name) else {
                    self.waits_for_engine(node, key, &name);
                    return;
                };
                if let Some(resident) = self.resident(node, key) {
                    resident.generation = Some(generation);
                }
                self.random.seconds(1, 6)
            }
        };
        let wait = if self.active.slow_loads {
            (wait * 20).min(LOAD)
        } else {
            wait
        };
        self.agent_soon(node, wait, Step::Work(key.clone(), job, Part::End));
    }

    fn uses_engine(&mut self, node: usize, key: &host::Key, device: &str) {
        if let Some(resident) = self.resident(node, key) {
            resident.uses_engine = true;
        }
        self.want_engine(node, device);
    }

    fn waits_for_engine(&mut self, node: usize, key: &host::Key, device: &str) {
        let why = self.engine_died_of(node, device);
        let Some(resident) = self.resident(node, key) else {
            return;
        };
        resident.waits = Some(Waits::Engine);
        // Said, not counted: the engine has pauses of its own.
        if let Some(why) = why {
            resident.state.failure = Some(engine_failed(&why));
        }
        self.tell(node, key);
    }

    fn end_fetch(&mut self, node: usize, key: &host::Key) {
        let Some(resident) = self.resident(node, key) else {
            return;
        };
        let is_bad = resident.replica.spec.model.source.digest.contains("bad");
        let came = if is_bad {
            Came::Failed(Failure::new(
                "DigestMismatch",
                Retry::Slowly,
                "another file lies there",
            ))
        } else if self.active.failing_loads && self.random.chance(50) {
            Came::Failed(Failure::new("SourceUnreachable", Retry::Soon, "no answer"))
        } else {
            Came::Done
        };
        self.happens(node, key, came, true);
    }

    fn end_probe(&mut self, node: usize, key: &host::Key) {
        if self.active.failing_loads && self.random.chance(40) {
            let failure = Failure::new("ProbeFailed", Retry::Soon, "the probe crashed");
            self.happens(node, key, Came::Failed(failure), true);
            return;
        }
        let Some(resident) = self.resident(node, key) else {
            return;
        };
        resident.profile = Some(Profile {
            memory: resident.replica.spec.memory.clone(),
            load_milliseconds: 1000,
            device_nodes: 100,
            cpu_nodes: 0,
            latencies: vec![Latency {
                batch: 1,
                p50_microseconds: 5000,
            }],
        });
        self.happens(node, key, Came::Done, true);
    }

    fn end_load(&mut self, node: usize, key: &host::Key) {
        let Some(resident) = self.resident(node, key) else {
            return;
        };
        let spec = &resident.replica.spec;
        let device = spec.device.clone();
        let loaded = Loaded {
            key: key.clone(),
            uid: resident.uid.clone(),
            namespace: key.0.clone(),
            model: spec.model.name.clone().unwrap_or_default(),
            revision: spec.revision,
            digest: spec.model.source.digest.clone(),
            memory: crate::check::bytes(&spec.memory),
            running: 0,
        };
        let generation = resident.generation;
        if self.engine_up(node, &device) != generation || generation.is_none() {
            self.happens(
                node,
                key,
                Came::EngineDied("the engine was started anew".to_owned()),
                true,
            );
            return;
        }
        if self.active.failing_loads && self.random.chance(40) {
            if self.random.chance(50) {
                // It dies of what it loads.
                self.kill_engine(node, &device, "it crashed while loading");
            } else {
                self.happens(node, key, Came::Failed(engine_failed("it refused")), true);
            }
            return;
        }
        let name = if self.bug == Some(Bug::SharesNames) {
            format!("{}.{}", loaded.namespace, loaded.model)
        } else {
            engine_name(key)
        };
        if self.load_into_engine(node, &device, name, loaded) {
            self.happens(node, key, Came::Done, true);
        } else {
            let failure = Failure::new(
                "OutOfMemory",
                Retry::Slowly,
                "the device has too little memory free",
            );
            self.happens(node, key, Came::Failed(failure), true);
        }
    }

    /// While it drains: is anybody still asking for it?
    fn look(&mut self, node: usize, key: &host::Key) {
        let Some(resident) = self.resident(node, key) else {
            return;
        };
        resident.looks += 1;
        let (looks, job) = (resident.looks, resident.job);
        let device = resident.replica.spec.device.clone();
        let uid = resident.uid.clone();
        if self.runs_in_engine(node, &device, uid.as_ref()) && looks < LOOKS {
            self.agent_soon(
                node,
                Duration::from_millis(500),
                Step::Work(key.clone(), job, Part::Look),
            );
            return;
        }
        self.unload_from_engine(node, &device, uid.as_ref());
        self.happens(node, key, Came::Done, true);
    }

    /// The engine of a device has gone, and everything in it.
    pub(crate) fn engine_was_lost(&mut self, node: usize, device: &str, generation: u64, why: &str) {
        let Some(agent) = &self.machines[node].agent else {
            return;
        };
        let keys: Vec<host::Key> = agent
            .residents
            .iter()
            .filter(|(_, resident)| {
                resident.replica.spec.device == device
                    && (resident.generation == Some(generation) && resident.state.phase != Phase::Released
                        || resident.waits == Some(Waits::Engine))
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            let Some(resident) = self.resident(node, &key) else {
                continue;
            };
            if resident.waits == Some(Waits::Engine) {
                self.waits_for_engine(node, &key, device);
            } else {
                resident.generation = None;
                self.happens(node, &key, Came::EngineDied(why.to_owned()), true);
            }
        }
    }

    /// The engine of a device is up: who waited for it goes on.
    pub(crate) fn engine_came_up(&mut self, node: usize, device: &str) {
        self.wake(node, |resident| {
            resident.waits == Some(Waits::Engine) && resident.replica.spec.device == device
        });
    }

    /// The devices as engines may use them have changed.
    pub(crate) fn use_devices(&mut self, node: usize, usable: Vec<Device>) {
        let Some(agent) = &mut self.machines[node].agent else {
            return;
        };
        if agent.usable == usable {
            return;
        }
        agent.usable = usable;
        let serving: Vec<host::Key> = agent
            .residents
            .iter()
            .filter(|(_, resident)| resident.state.phase == Phase::Ready)
            .map(|(key, _)| key.clone())
            .collect();
        for key in serving {
            self.tell(node, &key);
        }
        self.wake(node, |resident| resident.waits == Some(Waits::Device));
    }

    fn wake(&mut self, node: usize, who: impl Fn(&Resident) -> bool) {
        let Some(agent) = &self.machines[node].agent else {
            return;
        };
        let keys: Vec<host::Key> = agent
            .residents
            .iter()
            .filter(|(_, resident)| who(resident))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.begin_work(node, &key);
        }
    }

    fn device_of(&self, node: usize, key: &host::Key) -> (Option<Device>, bool) {
        let Some(agent) = &self.machines[node].agent else {
            return (None, false);
        };
        let device = agent.residents.get(key).and_then(|resident| {
            let name = &resident.replica.spec.device;
            agent.usable.iter().find(|device| device.name == *name).cloned()
        });
        (device, !agent.usable.is_empty())
    }

    /// Says how it stands.
    fn tell(&mut self, node: usize, key: &host::Key) {
        let (device, looked) = self.device_of(node, key);
        let now = Stamp(to_second(self.now, self.machines[node].skew));
        let stamps = self.bug == Some(Bug::StampsStatus);
        let shares = self.bug == Some(Bug::SharesNames);
        let machine = self.machines[node].name.clone();
        let Some(resident) = self.resident(node, key) else {
            return;
        };
        let spec = &resident.replica.spec;
        let name = if shares {
            format!("{}.{}", key.0, spec.model.name.clone().unwrap_or_default())
        } else {
            engine_name(key)
        };
        let endpoint = Endpoint {
            grpc: format!("{machine}/{}", spec.device),
            http: format!("{machine}/{}", spec.device),
            model: name,
        };
        let view = View {
            replica: &resident.replica,
            state: &resident.state,
            device: device.as_ref(),
            looked,
            endpoint: Some(&endpoint),
            progress: None,
            profile: resident.profile.as_ref(),
        };
        let mut said = status(&view, &resident.last, now.clone());
        if stamps {
            for condition in &mut said.conditions {
                condition.last_transition_time = now.clone();
            }
        }
        resident.last = said;
        let reported = Reported {
            uid: resident.uid.clone(),
            status: resident.last.clone(),
            engine_released: resident.state.phase == Phase::Released,
        };
        self.tell_of(node, key.clone(), reported);
    }
}

impl Resident {
    /// The device that it is bound to.
    pub fn device(&self) -> &str {
        &self.replica.spec.device
    }
}
