//! Clients: they ask for models at all times, and every request has exactly one end.

use std::time::Duration;

use afterglow_crds::condition::{self, READY};
use afterglow_crds::inference_cluster::Strategy;
use afterglow_operator::steps::Key;
use afterglow_scheduler::steps::{Ask, Attempt, Desk, Outcome};

use crate::bug::Bug;
use crate::scheduler::ROOM;
use crate::trace::Sight;
use crate::world::{Event, NAMESPACE, Phase, World};

const DEADLINE: Duration = Duration::from_mins(1);
const CONNECT: Duration = Duration::from_secs(2);
/// Until a connection to a machine without power counts as broken.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A request on its way.
#[derive(Debug)]
pub struct Request {
    scheduler: usize,
    ask: Ask,
    model: String,
    version: Option<i64>,
    attempt: Option<Attempt>,
    at: Option<Place>,
    tries: usize,
    /// Whether its model's deployment was Ready, all faults long over.
    must_succeed: bool,
}

/// Where an attempt runs.
#[derive(Debug, Clone)]
struct Place {
    node: usize,
    card: usize,
    generation: u64,
    name: String,
}

/// Counters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Events that were ever put into the queue.
    pub events: u64,
    /// Requests that came.
    pub came: u64,
    /// Requests that ended, whatever the end.
    pub ended: u64,
}

/// What a request does next; an attempt's belong to that attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The next request comes.
    Arrive,
    /// The attempt reaches its engine, or does not.
    Reach(usize),
    /// The engine has answered.
    Done(usize),
    /// The attempt's connection is broken.
    Break(usize),
    /// Its time is over.
    Late,
}

impl World {
    /// What a request does at its time.
    pub fn request_step(&mut self, id: u64, step: Step) {
        if step == Step::Arrive {
            self.arrive();
            return;
        }
        let Some(request) = self.requests.get(&id) else {
            return;
        };
        match step {
            Step::Reach(attempt) if attempt == request.tries => self.reach(id),
            Step::Done(attempt) if attempt == request.tries => self.done(id),
            Step::Break(attempt) if attempt == request.tries => self.attempt_over(id, Outcome::Broken),
            Step::Late => self.end_request(id, "it was late"),
            _ => {}
        }
    }

    fn arrive(&mut self) {
        let wait = match self.phase {
            Phase::Storm => self.random.milliseconds(50, 1500),
            Phase::Calm | Phase::Rest => self.random.seconds(5, 20),
        };
        self.after(wait, Event::Request(0, Step::Arrive));
        let doors: Vec<usize> = (0..self.schedulers.len())
            .filter(|who| self.schedulers[*who].runs)
            .collect();
        let deployments: Vec<Key> = self.api.deployments.objects.keys().cloned().collect();
        if doors.is_empty() || deployments.is_empty() {
            return;
        }
        let scheduler = doors[self.random.place(doors.len())];
        let key = &deployments[self.random.place(deployments.len())];
        let Some(deployment) = self.api.deployments.objects.get(key).cloned() else {
            return;
        };
        let model = deployment
            .spec
            .model
            .name
            .clone()
            .unwrap_or_else(|| key.name.clone());
        let status = deployment.status.clone().unwrap_or_default();
        let is_ready = condition::is_true(&status.conditions, READY);
        let version = self
            .random
            .chance(30)
            .then_some(status.revision)
            .filter(|revision| *revision > 0);
        let arrival = self.clock.instant(self.now);
        let ask = Ask::new(
            NAMESPACE,
            &model,
            version.map(|version| version.to_string()),
            arrival,
            arrival + DEADLINE,
        );
        self.schedulers[scheduler].desk.earn();
        self.schedulers[scheduler].taken.0 += 1;
        self.counts.came += 1;
        let id = self.counts.came;
        let request = Request {
            scheduler,
            ask,
            model,
            version,
            attempt: None,
            at: None,
            tries: 0,
            must_succeed: self.phase == Phase::Rest && is_ready,
        };
        self.requests.insert(id, request);
        self.after(DEADLINE, Event::Request(id, Step::Late));
        self.try_once_more(id);
    }

    /// Asks the next replica, if there is one to ask.
    fn try_once_more(&mut self, id: u64) {
        let now = self.clock.instant(self.now);
        let random = self.random.number();
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        let who = request.scheduler;
        let scheduler = &mut self.schedulers[who];
        if self.bug == Some(Bug::RetriesWithoutEnd) && request.tries > 0 && request.tries < 12 {
            let version = request.version.map(|version| version.to_string());
            request.ask = Ask::new(NAMESPACE, &request.model, version, now, now + DEADLINE);
        }
        let fleet = scheduler.fleet.clone();
        let next = scheduler
            .desk
            .next(&fleet, &mut request.ask, Strategy::Adaptive, now, random);
        let Some(attempt) = next else {
            let why = if request.tries == 0 {
                "nobody is ready"
            } else {
                "every attempt failed"
            };
            self.end_request(id, why);
            return;
        };
        request.tries += 1;
        let tries = request.tries;
        if tries > 1 {
            scheduler.taken.1 += 1;
            self.trace.saw(Sight::Retry);
        }
        let (taken, again) = self.schedulers[who].taken;
        let replica = attempt.replica.clone();
        let known = self.schedulers[who]
            .replicas
            .objects
            .values()
            .find(|known| {
                format!(
                    "{NAMESPACE}/{}",
                    known.metadata.name.as_deref().unwrap_or_default()
                ) == replica.id
            })
            .cloned();
        crate::note!(self, "request {id} tries {}", replica.id);
        if tries > Desk::ATTEMPTS {
            self.violate(format!("request {id} is tried {tries} times"));
        }
        if again * 5 > taken + 5 * Desk::SAVED {
            self.violate(format!("scheduler-{who} sent {again} of {taken} requests again"));
        }
        // By what the scheduler itself knows: the view that it picked from may be no older than a burst of changes.
        let is_ready = known.is_some_and(|known| {
            let status = known.status.as_ref();
            known.metadata.deletion_timestamp.is_none()
                && status.is_some_and(|status| condition::is_true(&status.conditions, READY))
        });
        if !is_ready && self.schedulers[who].is_settled() {
            self.violate(format!("scheduler-{who} asks {}, which is not Ready", replica.id));
        }
        if let Some(request) = self.requests.get_mut(&id) {
            request.attempt = Some(attempt);
            request.at = None;
        }
        self.after(Duration::from_millis(1), Event::Request(id, Step::Reach(tries)));
    }

    fn reach(&mut self, id: u64) {
        let Some(request) = self.requests.get(&id) else {
            return;
        };
        let (tries, Some(attempt)) = (request.tries, &request.attempt) else {
            return;
        };
        let replica = attempt.replica.clone();
        let Some(node) = self
            .machines
            .iter()
            .position(|machine| machine.name == replica.node)
        else {
            return;
        };
        let machine = &self.machines[node];
        if !machine.powered || machine.unreachable {
            self.after(CONNECT, Event::Request(id, Step::Break(tries)));
            return;
        }
        if self.active.broken_connections && self.random.chance(30) {
            self.attempt_over(id, Outcome::Broken);
            return;
        }
        let machine = &mut self.machines[node];
        let Some(card) = machine.card(&replica.device) else {
            return;
        };
        let Some(engine) = machine.cards[card].engine.as_mut().filter(|engine| engine.is_up) else {
            self.attempt_over(id, Outcome::Broken);
            return;
        };
        let generation = engine.generation;
        let Some(loaded) = engine.models.get_mut(&replica.engine_model) else {
            self.attempt_over(id, Outcome::Missing);
            return;
        };
        if loaded.running >= ROOM {
            self.attempt_over(id, Outcome::Busy);
            return;
        }
        loaded.running += 1;
        let place = Place {
            node,
            card,
            generation,
            name: replica.engine_model.clone(),
        };
        if let Some(request) = self.requests.get_mut(&id) {
            request.at = Some(place);
        }
        let wait = self.random.milliseconds(5, 4000);
        self.after(wait, Event::Request(id, Step::Done(tries)));
    }

    fn done(&mut self, id: u64) {
        let Some(request) = self.requests.get(&id) else {
            return;
        };
        let (tries, Some(place)) = (request.tries, request.at.clone()) else {
            return;
        };
        let machine = &mut self.machines[place.node];
        if !machine.powered || machine.unreachable {
            self.after(KEEP_ALIVE, Event::Request(id, Step::Break(tries)));
            return;
        }
        let engine = machine.cards[place.card].engine.as_mut();
        let engine = engine.filter(|engine| engine.is_up && engine.generation == place.generation);
        let Some(by) = engine.and_then(|engine| engine.models.get(&place.name)).cloned() else {
            self.attempt_over(id, Outcome::Broken);
            return;
        };
        let Some(attempt) = &request.attempt else { return };
        let asked = (attempt.replica.id.clone(), attempt.replica.revision);
        let answered = (format!("{}/{}", by.key.0, by.key.1), by.revision);
        let right = asked == answered
            && by.namespace == NAMESPACE
            && by.model == request.model
            && request.version.is_none_or(|version| version == by.revision);
        if !right {
            self.violate(format!(
                "request {id} for {asked:?} is answered by {answered:?}, which serves {}",
                by.model
            ));
        }
        self.attempt_over(id, Outcome::Answered);
    }

    fn attempt_over(&mut self, id: u64, outcome: Outcome) {
        let now = self.clock.instant(self.now);
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        let Some(attempt) = request.attempt.take() else {
            return;
        };
        let place = request.at.take();
        self.schedulers[request.scheduler]
            .desk
            .over(&mut request.ask, &attempt, outcome, now);
        drop(attempt);
        self.leave_engine(place);
        self.trace.saw(match outcome {
            Outcome::Answered => Sight::Answered,
            Outcome::Busy => Sight::Busy,
            Outcome::Missing => Sight::Missing,
            Outcome::Broken | Outcome::Unsent => Sight::Broken,
        });
        if outcome == Outcome::Answered {
            self.end_request(id, "answered");
        } else {
            self.try_once_more(id);
        }
    }

    /// Nobody waits for that engine's answer any more.
    fn leave_engine(&mut self, place: Option<Place>) {
        let Some(place) = place else { return };
        let engine = self.machines[place.node].cards[place.card].engine.as_mut();
        let engine = engine.filter(|engine| engine.generation == place.generation);
        if let Some(loaded) = engine.and_then(|engine| engine.models.get_mut(&place.name)) {
            loaded.running = loaded.running.saturating_sub(1);
        }
    }

    /// The one end of a request.
    fn end_request(&mut self, id: u64, how: &str) {
        let Some(request) = self.requests.remove(&id) else {
            self.violate(format!("request {id} ends twice, now: {how}"));
            return;
        };
        self.leave_engine(request.at.clone());
        self.counts.ended += 1;
        crate::note!(self, "request {id} for {}: {how}", request.model);
        if how != "answered" {
            self.trace.saw(Sight::Refused);
            if request.must_succeed {
                self.violate(format!(
                    "request {id} for {}, which is Ready: {how}",
                    request.model
                ));
            }
        }
    }

    /// A scheduler has gone: its clients see their connections break.
    pub(crate) fn lose_requests(&mut self, who: usize) {
        let lost: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, request)| request.scheduler == who)
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            self.end_request(id, "its scheduler is gone");
        }
    }
}
