//! What states mean now: `(state, time) → standing`, and `(replicas of a model) → tiers`.

use std::cmp::Reverse;
use std::time::Duration;

use super::{Cause, PROBE, SILENT, State};

/// Whether something may be used. The greater of two is the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing speaks against it.
    Well,
    /// One request may go there to see; whoever sends it says [`Probe`](super::Event::Probe) first.
    MayProbe,
    /// It is left alone.
    Out {
        /// Whether there is nobody to ask; else somebody is there who answers badly.
        hard: bool,
        /// Until when, at least.
        until: Duration,
    },
}

/// What a state means at a time.
///
/// ```
/// use std::time::Duration;
/// use afterglow_policy::breaker::{Event, Standing, State, standing, step};
///
/// assert_eq!(standing(&State::default(), Duration::ZERO), Standing::Well);
/// let lost = step(&State::default(), Event::Unreachable, Duration::ZERO, 0);
/// // Not by a client's request: by who keeps the connection.
/// assert!(matches!(standing(&lost, Duration::from_secs(60)), Standing::Out { hard: true, .. }));
/// ```
pub fn standing(state: &State, now: Duration) -> Standing {
    let Some(out) = state.out else {
        return Standing::Well;
    };
    let left_alone = Standing::Out {
        hard: out.cause.hard(),
        until: out.until,
    };
    let under_way = out.probe.is_some_and(|at| now < at + PROBE);
    if out.cause == Cause::Unreachable || now < out.until || under_way {
        left_alone
    } else {
        Standing::MayProbe
    }
}

/// What is known of one replica's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// The worse of its engine's and its own.
    pub standing: Standing,
    /// Whether its node says that it takes requests; silence is consent.
    pub accepts: bool,
    /// How long ago its node was heard last.
    pub silent: Duration,
}

/// The order in which a model's replicas are asked, each one's tier: those of a tier only when the lower ones have none left.
///
/// 0 = well · 1 = in doubt: its node is silent, or more than half answer badly and it is the next to be back · 2 = its node wants
/// nothing new · 3 = left alone. If all are in doubt, doubt changes nothing.
///
/// ```
/// use std::time::Duration;
/// use afterglow_policy::breaker::{Health, Standing, tiers};
///
/// let well = Health { standing: Standing::Well, accepts: true, silent: Duration::ZERO };
/// let silent = Health { silent: Duration::from_secs(2), ..well };
/// let leaving = Health { accepts: false, ..well };
/// assert_eq!(tiers(&[well, silent, leaving]), [0, 1, 2]);
/// ```
pub fn tiers(all: &[Health]) -> Vec<u8> {
    let hard = |health: &Health| matches!(health.standing, Standing::Out { hard: true, .. });
    let there = all.iter().filter(|health| !hard(health)).count();
    let mut soft: Vec<(Reverse<Duration>, usize)> = all
        .iter()
        .enumerate()
        .filter_map(|(place, health)| match health.standing {
            Standing::Out { hard: false, until } => Some((Reverse(until), place)),
            _ => None,
        })
        .collect();
    // Those that are back last are left alone first.
    soft.sort_unstable();
    let left_alone: Vec<usize> = soft.iter().take(there / 2).map(|(_, place)| *place).collect();
    all.iter()
        .enumerate()
        .map(|(place, health)| {
            if hard(health) || left_alone.contains(&place) {
                3
            } else if !health.accepts {
                2
            } else {
                u8::from(health.silent > SILENT || matches!(health.standing, Standing::Out { .. }))
            }
        })
        .collect()
}
