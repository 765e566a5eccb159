//! To whom a device belongs, as a table. A device is in one of five states, and a step is taken only after what the last
//! step decided has been published: so nobody places a model on, or claims, a device whose new owner is not known to all.

/// To whom a device belongs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// To models. Tainted in the `ResourceSlice`, offered in the `GpuNode`.
    #[default]
    Serving,
    /// To models for as long as there are any; nothing new comes. Tainted, not offered.
    Draining,
    /// To whoever claims it. Not tainted, not offered.
    Lendable,
    /// To a pod's claim. Not tainted, not offered.
    Lent,
    /// Wanted back: nobody new may claim it, and models wait for the claims to end. Tainted, not offered.
    Reclaiming,
}

/// What is known of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// `spec.lend` names it, and this node can lend.
    pub wanted: bool,
    /// Model replicas that are bound to it.
    pub replicas: usize,
    /// Resource claims that are allocated on it.
    pub claims: usize,
    /// Whether a process of ours is on it: an engine that has nothing to do any more takes a moment to end.
    pub occupied: bool,
}

impl State {
    pub(crate) const ALL: [Self; 5] = [
        Self::Serving,
        Self::Draining,
        Self::Lendable,
        Self::Lent,
        Self::Reclaiming,
    ];

    /// Where an agent that has just started finds a device: what a pod holds stays its own.
    pub fn at_start(facts: Facts) -> Self {
        match facts {
            Facts {
                claims: 1..,
                replicas: 0,
                wanted: true,
                ..
            } => Self::Lent,
            Facts {
                claims: 1..,
                replicas: 0,
                wanted: false,
                ..
            } => Self::Reclaiming,
            _ => Self::Serving,
        }
    }

    /// One step.
    #[must_use]
    #[expect(clippy::match_same_arms, reason = "one arm is one row of the table")]
    pub fn next(self, facts: Facts) -> Self {
        let lent = if facts.claims > 0 {
            Self::Lent
        } else {
            Self::Lendable
        };
        match self {
            Self::Serving if facts.wanted => Self::Draining,
            // The allocator was faster than the taint: the pod keeps what it was given.
            Self::Serving if facts.claims > 0 && facts.replicas == 0 => Self::Reclaiming,
            Self::Serving => Self::Serving,
            Self::Draining if !facts.wanted => Self::Serving,
            Self::Draining if facts.replicas > 0 || facts.occupied => Self::Draining,
            Self::Draining => lent,
            Self::Lendable | Self::Lent if !facts.wanted => Self::Reclaiming,
            Self::Lendable | Self::Lent => lent,
            Self::Reclaiming if facts.wanted => lent,
            Self::Reclaiming if facts.claims > 0 => Self::Reclaiming,
            Self::Reclaiming => Self::Serving,
        }
    }

    /// Whether models may be placed on it.
    pub fn offered(self) -> bool {
        self == Self::Serving
    }

    /// Whether an engine may run on it.
    pub fn hosts(self) -> bool {
        matches!(self, Self::Serving | Self::Draining)
    }

    /// Whether claims are kept away from it.
    pub fn tainted(self) -> bool {
        !matches!(self, Self::Lendable | Self::Lent)
    }

    /// Whether something is to happen soon.
    pub fn moving(self) -> bool {
        matches!(self, Self::Draining | Self::Reclaiming)
    }

    /// Why models may not be placed on it; empty where they may.
    pub fn because(self) -> &'static str {
        match self {
            Self::Serving => "",
            Self::Draining => "it is to be lent to other pods (spec.lend) once the models on it have gone",
            Self::Lendable => "it is kept for other pods (spec.lend); none has claimed it yet",
            Self::Lent => "it is lent to another pod (spec.lend)",
            Self::Reclaiming => "it was lent to another pod, which still holds it",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::State::{Draining, Lendable, Lent, Reclaiming, Serving};
    use super::*;

    fn facts(wanted: bool, replicas: usize, claims: usize) -> Facts {
        Facts {
            wanted,
            replicas,
            claims,
            occupied: false,
        }
    }

    #[test]
    fn a_device_is_lendable_only_when_the_engine_that_served_from_it_has_ended() {
        let ending = Facts {
            occupied: true,
            ..facts(true, 0, 0)
        };
        assert_eq!(Draining.next(ending), Draining);
        assert_eq!(Draining.next(facts(true, 0, 0)), Lendable);
        assert_eq!(
            Serving.next(Facts {
                wanted: false,
                ..ending
            }),
            Serving
        );
    }

    #[test]
    fn every_step_is_in_the_table() {
        #[rustfmt::skip]
        let table = [
            //           wanted replicas claims
            (Serving,    false, 0, 0, Serving),
            (Serving,    false, 2, 0, Serving),
            (Serving,    false, 2, 1, Serving),
            (Serving,    false, 0, 1, Reclaiming),
            (Serving,    true,  0, 0, Draining),
            (Serving,    true,  2, 0, Draining),
            (Draining,   true,  2, 0, Draining),
            (Draining,   true,  2, 1, Draining),
            (Draining,   true,  0, 0, Lendable),
            (Draining,   true,  0, 1, Lent),
            (Draining,   false, 2, 0, Serving),
            (Lendable,   true,  0, 0, Lendable),
            (Lendable,   true,  1, 0, Lendable),
            (Lendable,   true,  0, 1, Lent),
            (Lendable,   false, 0, 0, Reclaiming),
            (Lent,       true,  0, 1, Lent),
            (Lent,       true,  0, 0, Lendable),
            (Lent,       false, 0, 1, Reclaiming),
            (Lent,       false, 0, 0, Reclaiming),
            (Reclaiming, false, 0, 1, Reclaiming),
            (Reclaiming, false, 0, 0, Serving),
            (Reclaiming, true,  0, 1, Lent),
            (Reclaiming, true,  0, 0, Lendable),
        ];
        for (state, wanted, replicas, claims, next) in table {
            assert_eq!(
                state.next(facts(wanted, replicas, claims)),
                next,
                "{state:?} wanted={wanted} replicas={replicas} claims={claims}"
            );
        }
    }

    #[test]
    fn a_device_never_serves_models_and_is_free_to_claim() {
        for state in State::ALL {
            assert!(!state.hosts() || state.tainted(), "{state:?}");
            assert!(!state.offered() || state.hosts(), "{state:?}");
            assert_eq!(state.because().is_empty(), state.offered(), "{state:?}");
        }
    }

    #[test]
    fn between_models_and_claims_there_is_always_a_published_state_that_is_neither() {
        for state in State::ALL {
            for wanted in [false, true] {
                for replicas in [0, 1] {
                    for claims in [0, 1] {
                        let next = state.next(facts(wanted, replicas, claims));
                        assert!(
                            !state.offered() || next.tainted(),
                            "{state:?} → {next:?}: models could still be placed when the taint goes"
                        );
                        assert!(
                            state.tainted() || !next.hosts(),
                            "{state:?} → {next:?}: claims could still be allocated when the engine starts"
                        );
                        assert!(
                            !(next == Serving && state != Serving && state != Draining && claims > 0),
                            "{state:?} → Serving while a claim is allocated"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_a_pod_holds_stays_its_own_over_a_restart() {
        assert_eq!(State::at_start(facts(true, 0, 1)), Lent);
        assert_eq!(State::at_start(facts(false, 0, 1)), Reclaiming);
        assert_eq!(
            State::at_start(facts(true, 0, 0)),
            Serving,
            "drained again, in the open"
        );
        assert_eq!(State::at_start(facts(true, 2, 0)), Serving);
        assert_eq!(State::at_start(facts(false, 1, 1)), Serving);
    }
}
