//! What the operator has said of each object, to notice when its status says otherwise: the last word of an operator that led
//! before came late, or somebody has written there by hand. A status of its own is no news, and no reason to look again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::queue::Key;

/// The last status of each object, as it was written or found to be right already.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<Key, Value>>);

impl Told {
    /// This is said from now on; before it is written, so that the watch cannot be faster.
    pub(crate) fn say(&self, key: Key, status: &impl Serialize) {
        self.lock().insert(key, value(status));
    }

    /// Whether an object says otherwise. Of one that nothing was said about, nothing is otherwise.
    pub(crate) fn is_contradicted(&self, key: &Key, status: Option<&impl Serialize>) -> bool {
        let told = self.lock();
        told.get(key)
            .is_some_and(|told| *told != status.map_or(Value::Null, value))
    }

    /// The object is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn value(status: &impl Serialize) -> Value {
    // As it goes over the wire: a time there has no more digits than it is written with.
    serde_json::to_value(status).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_that_is_not_ones_own_is_a_contradiction() {
        let (told, key) = (Told::default(), Key::within("team", "bert"));
        assert!(!told.is_contradicted(&key, Some(&"anything")), "nothing was said");
        told.say(key.clone(), &"ready");
        assert!(!told.is_contradicted(&key, Some(&"ready")));
        assert!(told.is_contradicted(&key, Some(&"not ready")));
        assert!(
            told.is_contradicted(&key, None::<&&str>),
            "somebody has emptied it"
        );
        told.forget(&key);
        assert!(!told.is_contradicted(&key, None::<&&str>));
    }
}
