//! What an attempt came to, and whether another may follow.

use std::time::Instant;

use super::After;

/// Engines that a request may harm: one that breaks two of them is not given to a third.
const BREAKINGS: usize = 2;
/// Times that a request is sent again because an engine had no room, or no such model.
const DECLININGS: usize = 2;

/// What an attempt came to. `A` is an answer in the door's own words, an error's included.
#[derive(Debug)]
pub(crate) enum Outcome<A> {
    /// A good answer.
    Answered(A),
    /// The answer is that the request is wrong, or came too late: another replica would say the same.
    Refused(A),
    /// The engine failed by itself; the answer says so.
    Fault(A),
    /// The engine has no room, or is on its way out.
    Busy(A),
    /// The engine does not have the model (any more).
    Missing,
    /// It did not answer in a time in which it should have.
    Late,
    /// No answer: the connection broke.
    Broken(String),
    /// Nothing of the request was sent: there is no connection.
    Unsent(String),
}

impl<A> Outcome<A> {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::Refused(_) => "refused",
            Self::Fault(_) => "fault",
            Self::Busy(_) => "busy",
            Self::Missing => "missing",
            Self::Late => "late",
            Self::Broken(_) => "broken",
            Self::Unsent(_) => "unsent",
        }
    }

    /// Whether the same replica, or one that comes, may well answer in a moment.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Missing | Self::Broken(_) | Self::Unsent(_))
    }
}

/// What a request has been through.
#[derive(Debug, Default)]
pub(crate) struct Trip {
    /// Replicas that were asked: one has it, the others have refused it.
    pub(crate) excluded: Vec<String>,
    /// Attempts so far.
    pub(super) tried: u32,
    broke: usize,
    declined: usize,
    /// What the next attempt is to be paid from; `None`: it is the first, or the one before was none.
    pub(crate) due: Option<After>,
    /// What the last attempt that was one came to.
    pub(super) last: &'static str,
    /// Whether whoever was asked last, or another, may well answer in a moment.
    pub(super) may_pass: bool,
    /// Until when that is waited for.
    pub(super) chance_ends: Option<Instant>,
}

impl Trip {
    /// Engines that see a request at most.
    pub(crate) const DELIVERIES: usize = BREAKINGS + DECLININGS;

    /// Whether no engine has broken over the request yet.
    pub(super) fn first(&self) -> bool {
        self.broke == 0
    }

    /// Takes in what an attempt came to; answers whether another may follow.
    pub(crate) fn again<A>(&mut self, outcome: &Outcome<A>) -> bool {
        self.tried += 1;
        self.may_pass = outcome.may_pass();
        if !matches!(outcome, Outcome::Unsent(_)) {
            self.last = outcome.name();
        }
        match outcome {
            Outcome::Answered(_) | Outcome::Refused(_) => false,
            // Nobody has seen it: it costs nothing, and those that were tried are not tried again.
            Outcome::Unsent(_) => true,
            Outcome::Busy(_) | Outcome::Missing => {
                self.declined += 1;
                self.due = Some(After::Declining);
                self.declined <= DECLININGS
            }
            // Paid for before it was given up.
            Outcome::Late => {
                self.broke += 1;
                true
            }
            Outcome::Fault(_) | Outcome::Broken(_) => {
                self.broke += 1;
                self.due = Some(After::Breaking);
                self.broke < BREAKINGS
            }
        }
    }
}

/// An error with its causes: "transport error" alone helps nobody.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trip(outcomes: &[Outcome<()>]) -> Vec<bool> {
        let mut trip = Trip::default();
        outcomes.iter().map(|outcome| trip.again(outcome)).collect()
    }

    #[test]
    fn a_request_that_breaks_two_engines_is_not_given_to_a_third() {
        let broken = || Outcome::Broken(String::new());
        assert_eq!(trip(&[broken(), broken()]), [true, false]);
        assert_eq!(trip(&[Outcome::Fault(()), broken()]), [true, false]);
        assert_eq!(trip(&[Outcome::Late, broken()]), [true, false]);
    }

    #[test]
    fn one_that_is_declined_is_sent_again_twice_and_one_that_was_not_sent_always() {
        let unsent = || Outcome::Unsent(String::new());
        assert_eq!(
            trip(&[
                Outcome::Busy(()),
                unsent(),
                unsent(),
                Outcome::Missing,
                Outcome::Busy(())
            ]),
            [true, true, true, true, false]
        );
        assert_eq!(trip(&[Outcome::Refused(())]), [false]);
    }
}
