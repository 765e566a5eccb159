//! Clients: they ask for models at all times, and every request has exactly one end.

mod attempt;

use std::time::{Duration, Instant};

use afterglow_crds::condition::{self, READY};
use afterglow_crds::inference_cluster::Strategy;
use afterglow_operator::steps::Key;
use afterglow_scheduler::steps::{Ask, Attempt, Desk, Next, Outcome};

use crate::bug::Bug;
use crate::trace::Sight;
use crate::world::{Event, NAMESPACE, Phase, World};

const DEADLINE: Duration = Duration::from_mins(1);

/// A request on its way.
#[derive(Debug)]
pub struct Request {
    scheduler: usize,
    ask: Ask,
    model: String,
    version: Option<i64>,
    attempt: Option<Attempt>,
    at: Option<Place>,
    /// How often somebody was picked for it.
    tries: usize,
    /// How often it was sent to an engine.
    deliveries: usize,
    /// Until when it waits for somebody to come (back).
    waits: Option<Instant>,
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
    /// The attempt has waited for a connection.
    Dialled(usize),
    /// It looks whether somebody has come (back).
    Look(usize),
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
            Step::Dialled(attempt) if attempt == request.tries => self.dialled(id),
            Step::Look(attempt) if attempt == request.tries => self.look_again(id),
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
            deliveries: 0,
            waits: None,
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
        let attempt = match next {
            Next::Ask(attempt) => attempt,
            Next::Wait(until) => {
                request.waits = Some(until);
                self.look_soon(id);
                return;
            }
            Next::Over => {
                let why = if request.tries == 0 {
                    "nobody is ready"
                } else {
                    "every attempt failed"
                };
                self.end_request(id, why);
                return;
            }
        };
        request.tries += 1;
        let tries = request.tries;
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

    /// Looks again after a while whether somebody has come (back).
    fn look_soon(&mut self, id: u64) {
        let now = self.clock.instant(self.now);
        let Some(request) = self.requests.get(&id) else {
            return;
        };
        let left = request
            .waits
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let step = Step::Look(request.tries);
        self.after(Desk::LOOK.min(left), Event::Request(id, step));
    }

    fn look_again(&mut self, id: u64) {
        let now = self.clock.instant(self.now);
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        if request.waits.is_none_or(|until| until <= now) {
            self.end_request(id, "nobody came back");
            return;
        }
        let scheduler = &mut self.schedulers[request.scheduler];
        let fleet = scheduler.fleet.clone();
        if scheduler.desk.may_ask_again(&fleet, &mut request.ask, now) {
            self.trace.saw(Sight::SecondChance);
            self.try_once_more(id);
        } else {
            self.look_soon(id);
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
