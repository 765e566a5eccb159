//! What is done next with a request: decided here, carried out by [`Scheduler::send`](super::Scheduler::send). Time and chance are
//! arguments.

use std::time::{Duration, Instant};

use super::Budget;
use super::outcome::Trip;
use crate::pick::Picked;
use crate::snapshot::{Call, Choice};

/// A request waits no longer for a replica …
const LONGEST: Duration = Duration::from_secs(2);
/// … and no longer than this part of the time that is left to it.
const PART: u32 = 4;
/// The tier of those that are left alone.
const ALONE: u8 = 3;

/// What is done next.
#[derive(Debug)]
pub(crate) enum Next {
    /// It is asked.
    Ask {
        /// Which, and why.
        picked: Picked,
        /// What an attempt before came to that this one is paid for.
        paid_for: Option<&'static str>,
    },
    /// Another request goes to see whether the replica is well; the next look says so.
    Look,
    /// All have refused it. One that broke may be back in a moment, or another may come.
    Wait(Chance),
    /// Nobody is left to ask.
    Nobody,
    /// It may not be sent again: too many requests were.
    OverBudget,
}

/// A moment in which a replica may come (back).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chance {
    /// When it is over; the same for all chances of a request.
    pub(crate) end: Instant,
    /// Whether there was one before: what looked as if it could be asked could not.
    pub(crate) again: bool,
}

impl Chance {
    /// Whether there is somebody to ask among `choices`.
    pub(crate) fn is_there(choices: &[Choice]) -> bool {
        choices.iter().any(|choice| choice.candidate.tier < ALONE)
    }
}

impl Trip {
    /// What is done next with a call for which that replica was picked.
    pub(crate) fn next(
        &mut self,
        picked: Option<Picked>,
        call: &Call,
        budget: &Budget,
        now: Instant,
    ) -> Next {
        let Some(picked) = picked else {
            return self.chance(call, now).map_or(Next::Nobody, Next::Wait);
        };
        if picked.choice.probes && !picked.choice.tracker.health.probe(now) {
            return Next::Look;
        }
        let paid_for = match self.due.take() {
            Some(after) if !budget.spend(after) => return Next::OverBudget,
            Some(_) => Some(self.last),
            None => None,
        };
        self.excluded.push(picked.choice.replica.id.clone());
        Next::Ask { picked, paid_for }
    }

    fn chance(&mut self, call: &Call, now: Instant) -> Option<Chance> {
        if !self.may_pass {
            return None;
        }
        let again = self.chance_ends.is_some();
        let left = call.deadline.saturating_duration_since(now);
        let end = *self.chance_ends.get_or_insert(now + LONGEST.min(left / PART));
        (now < end).then_some(Chance { end, again })
    }

    /// A replica has come (back): all may be asked once more.
    pub(crate) fn ask_all_again(&mut self) {
        self.excluded.clear();
    }
}

#[cfg(test)]
mod tests {
    use afterglow_crds::inference_cluster::Strategy;
    use afterglow_policy::breaker::Standing;

    use super::*;
    use crate::load::Table;
    use crate::pick::pick_with;
    use crate::send::{After, Outcome};
    use crate::snapshot::snapshot;
    use crate::snapshot::tests::{call, fleet};

    /// A request, and all that decides about it.
    struct Desk {
        trip: Trip,
        call: Call,
        budget: Budget,
        table: Table,
    }

    impl Desk {
        fn new() -> Self {
            Self {
                trip: Trip::default(),
                call: call(None),
                budget: Budget::default(),
                table: Table::default(),
            }
        }

        fn next(&mut self, second: u64) -> Next {
            let now = self.call.arrival + Duration::from_secs(second);
            let choices = snapshot(&fleet(), &self.table, |_| Standing::Well, &self.call, now);
            let choices = choices.expect("the model has replicas");
            let excluded = self.trip.excluded.clone();
            let picked = pick_with(&choices, &self.call, None, &excluded, Strategy::Adaptive, 0);
            self.trip.next(picked, &self.call, &self.budget, now)
        }

        /// Asks the next and hears this.
        fn hears(&mut self, outcome: &Outcome<()>) -> Option<&'static str> {
            let next = self.next(0);
            let Next::Ask { paid_for, .. } = next else {
                panic!("nobody is asked: {next:?}");
            };
            self.trip.again(outcome);
            paid_for
        }
    }

    #[test]
    fn nobody_is_asked_twice_and_what_was_not_sent_is_not_paid_for() {
        let mut desk = Desk::new();
        assert_eq!(desk.hears(&Outcome::Unsent(String::new())), None);
        assert_eq!(desk.hears(&Outcome::Busy(())), None, "the one before was none");
        assert!(matches!(desk.next(0), Next::Nobody), "both have refused it");
        let mut desk = Desk::new();
        desk.hears(&Outcome::Busy(()));
        assert_eq!(desk.hears(&Outcome::Busy(())), Some("busy"));
    }

    #[test]
    fn a_request_is_not_sent_again_when_a_fifth_of_all_were() {
        let mut desk = Desk::new();
        while desk.budget.spend(After::Breaking) {}
        desk.hears(&Outcome::Broken(String::new()));
        assert!(matches!(desk.next(0), Next::OverBudget));
    }

    #[test]
    fn a_request_whose_engines_broke_waits_two_seconds_for_one_and_no_longer() {
        let mut desk = Desk::new();
        desk.hears(&Outcome::Unsent(String::new()));
        desk.hears(&Outcome::Unsent(String::new()));
        let end = desk.call.arrival + LONGEST;
        let Next::Wait(first) = desk.next(0) else {
            panic!("one may be back");
        };
        assert_eq!(first, Chance { end, again: false });
        desk.trip.ask_all_again();
        desk.hears(&Outcome::Unsent(String::new()));
        desk.hears(&Outcome::Unsent(String::new()));
        let Next::Wait(second) = desk.next(1) else {
            panic!("one may still be back");
        };
        assert_eq!(second, Chance { end, again: true });
        assert!(matches!(desk.next(2), Next::Nobody));
    }
}
