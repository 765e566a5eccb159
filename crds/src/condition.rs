//! Conditions: the types and reasons that appear in status, in one place, so that documents, tests and code agree.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The one summary: it does what its owner wants.
pub const READY: &str = "Ready";
/// Work towards the wish is under way.
pub const PROGRESSING: &str = "Progressing";
/// It works worse than wished, and why.
pub const DEGRADED: &str = "Degraded";

/// A condition as its controller sees it; [`set`] keeps the time of the last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its name, in `PascalCase`.
    pub type_: &'static str,
    /// `Some(true)` is True, `None` is Unknown.
    pub status: Option<bool>,
    /// One `CamelCase` word for programs.
    pub reason: String,
    /// A sentence for people: what, where, and what to do.
    pub message: String,
}

impl State {
    /// A condition.
    pub fn new(
        type_: &'static str,
        status: impl Into<Option<bool>>,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_,
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// Conditions as they are to be written: `lastTransitionTime` moves only where the status flips, so that a second
/// report of the same facts is byte for byte the same.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the time is made for the call and needed for nothing else"
)]
pub fn set(old: &[Condition], states: &[State], generation: Option<i64>, now: Time) -> Vec<Condition> {
    states
        .iter()
        .map(|state| {
            let status = match state.status {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            };
            let since = old
                .iter()
                .find(|condition| condition.type_ == state.type_ && condition.status == status)
                .map_or_else(|| now.clone(), |condition| condition.last_transition_time.clone());
            Condition {
                type_: state.type_.to_owned(),
                status: status.to_owned(),
                reason: state.reason.clone(),
                message: state.message.clone(),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

/// Whether a condition is there and True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions
        .iter()
        .any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// A condition by its type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}
