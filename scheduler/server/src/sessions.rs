//! Where sessions were answered last, so that a replica that comes does not draw them away from the one that knows them.
//!
//! Bounded: two generations of at most [`GENERATION`] sessions each. When the young one is full it becomes the old one, and what
//! was in the old one and not asked for since is forgotten; such a session goes where its key says.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, PoisonError};

use crate::snapshot::Call;

/// Sessions of one generation; a session costs about 200 bytes.
const GENERATION: usize = 16_384;

/// Where sessions were answered last.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Generations>);

/// By namespace, model and session.
type Homes = HashMap<(String, String, String), String>;

#[derive(Debug, Default)]
struct Generations {
    young: Homes,
    old: Homes,
}

impl Sessions {
    /// The replica that answered the call's session last.
    pub(crate) fn home(&self, call: &Call) -> Option<String> {
        let key = key(call)?;
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let home = generations.young.get(&key).or_else(|| generations.old.get(&key));
        home.cloned()
    }

    /// Remembers which replica answered the call.
    pub(crate) fn remember(&self, call: &Call, replica: &str) {
        let Some(key) = key(call) else { return };
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= GENERATION && !generations.young.contains_key(&key) {
            generations.old = mem::take(&mut generations.young);
        }
        generations.young.insert(key, replica.to_owned());
    }
}

fn key(call: &Call) -> Option<(String, String, String)> {
    let session = call.session.clone()?;
    Some((call.namespace.clone(), call.model.clone(), session))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(session: Option<String>) -> Call {
        Call {
            session,
            ..crate::snapshot::tests::call(None)
        }
    }

    #[test]
    fn a_session_is_remembered_until_many_others_came_after_it() {
        let sessions = Sessions::default();
        let first = call(Some("first".into()));
        assert_eq!(sessions.home(&first), None);
        sessions.remember(&first, "team/a");
        assert_eq!(sessions.home(&first).as_deref(), Some("team/a"));
        for other in 0..2 * GENERATION {
            sessions.remember(&call(Some(format!("{other}"))), "team/b");
        }
        assert_eq!(
            sessions.home(&first),
            None,
            "two generations later it is forgotten"
        );
        let last = call(Some(format!("{}", 2 * GENERATION - 1)));
        assert_eq!(sessions.home(&last).as_deref(), Some("team/b"));
    }

    #[test]
    fn sessions_of_other_models_and_requests_without_one_are_apart() {
        let sessions = Sessions::default();
        let ours = call(Some("s".into()));
        sessions.remember(&ours, "team/a");
        sessions.remember(&call(None), "team/b");
        let other = Call {
            model: "other".into(),
            ..ours.clone()
        };
        assert_eq!(sessions.home(&other), None);
        assert_eq!(sessions.home(&call(None)), None);
        assert_eq!(sessions.home(&ours).as_deref(), Some("team/a"));
    }
}
