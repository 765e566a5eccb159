//! One attempt: over the connection that there is, to its engine, and back.

use std::time::Duration;

use afterglow_scheduler::steps::{Desk, Outcome};

use super::{Place, Step};
use crate::bug::Bug;
use crate::scheduler::ROOM;
use crate::trace::Sight;
use crate::world::{Event, NAMESPACE, World};

/// Until a connection that is being made is there, or is given up.
const DIAL: u64 = 750;
/// Until bytes that nobody acknowledges have their connection count as broken.
const UNACKNOWLEDGED: Duration = Duration::from_millis(1200);
/// Until a connection whose other end is silent counts as broken.
const KEEP_ALIVE: Duration = Duration::from_millis(3500);

impl World {
    /// The connection for which an attempt waited is there now, or cannot be made.
    pub(super) fn dialled(&mut self, id: u64) {
        if self.link_of(id).is_some() {
            self.reach(id);
        } else {
            self.attempt_over(id, Outcome::Unsent);
        }
    }

    /// The process to which the connection goes that a request's attempt is to take.
    fn link_of(&self, id: u64) -> Option<u64> {
        let request = self.requests.get(&id)?;
        let links = &self.schedulers[request.scheduler].links;
        links.get(&request.attempt.as_ref()?.replica.grpc).copied()
    }

    /// The request goes out.
    fn deliver(&mut self, id: u64) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        request.deliveries += 1;
        let (who, deliveries) = (request.scheduler, request.deliveries);
        if deliveries > 1 {
            self.schedulers[who].taken.1 += 1;
            self.trace.saw(Sight::Retry);
        }
        let (taken, again) = self.schedulers[who].taken;
        if deliveries > Desk::ATTEMPTS {
            self.violate(format!("request {id} is sent {deliveries} times"));
        }
        if again * 5 > taken + 5 * Desk::SAVED {
            self.violate(format!("scheduler-{who} sent {again} of {taken} requests again"));
        }
    }

    pub(super) fn reach(&mut self, id: u64) {
        let Some(request) = self.requests.get(&id) else {
            return;
        };
        let (who, tries, Some(attempt)) = (request.scheduler, request.tries, &request.attempt) else {
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
        let Some(link) = self.link_of(id) else {
            let wait = self.random.milliseconds(0, DIAL);
            self.after(wait, Event::Request(id, Step::Dialled(tries)));
            return;
        };
        let machine = &self.machines[node];
        if !machine.powered || machine.unreachable {
            // Nobody tells that nobody is there.
            self.deliver(id);
            self.after(UNACKNOWLEDGED, Event::Request(id, Step::Break(tries)));
            return;
        }
        let breaks = self.active.broken_connections && self.random.chance(30);
        if self.engine_at(&replica.node, &replica.device) != Some(link) || (breaks && self.random.chance(30))
        {
            // The connection was closed before anything was sent.
            self.lose_link(who, &replica.grpc);
            self.attempt_over(id, Outcome::Unsent);
            return;
        }
        self.deliver(id);
        if breaks {
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

    pub(super) fn done(&mut self, id: u64) {
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

    pub(super) fn attempt_over(&mut self, id: u64, outcome: Outcome) {
        let now = self.clock.instant(self.now);
        let is_mistaken = self.bug == Some(Bug::BreaksAreUnsent) && outcome == Outcome::Broken;
        let learnt = if is_mistaken { Outcome::Unsent } else { outcome };
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        let Some(attempt) = request.attempt.take() else {
            return;
        };
        let place = request.at.take();
        self.schedulers[request.scheduler]
            .desk
            .over(&mut request.ask, &attempt, learnt, now);
        drop(attempt);
        self.leave_engine(place);
        self.trace.saw(match outcome {
            Outcome::Answered => Sight::Answered,
            Outcome::Busy => Sight::Busy,
            Outcome::Missing => Sight::Missing,
            Outcome::Broken => Sight::Broken,
            Outcome::Unsent => Sight::Unsent,
        });
        if outcome == Outcome::Answered {
            self.end_request(id, "answered");
        } else {
            self.try_once_more(id);
        }
    }

    /// Nobody waits for that engine's answer any more.
    pub(super) fn leave_engine(&mut self, place: Option<Place>) {
        let Some(place) = place else { return };
        let engine = self.machines[place.node].cards[place.card].engine.as_mut();
        let engine = engine.filter(|engine| engine.generation == place.generation);
        if let Some(loaded) = engine.and_then(|engine| engine.models.get_mut(&place.name)) {
            loaded.running = loaded.running.saturating_sub(1);
        }
    }
}
