//! Whether an object is as it should be already, so that nothing is written when nothing changed.
//!
//! Two questions, and both answers must be yes: is what was applied last what is wanted now (a hash in an annotation), and
//! does the object still contain it (somebody may have changed it since)? What others have added is theirs.

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::build::{Child, Kind};
use crate::deployment::short_hash;

/// Hash of what was applied last.
const APPLIED: &str = "afterglow.dev/applied";

/// The hash of an object as it should be.
pub(crate) fn stamp(child: &Child) -> String {
    short_hash(child.body.to_string().as_bytes(), 16)
}

/// The object with the hash of itself.
pub(crate) fn stamped(child: &Child) -> Value {
    let mut body = child.body.clone();
    body["metadata"]["annotations"][APPLIED] = json!(stamp(child));
    body
}

/// Whether `live` is what is wanted.
pub(crate) fn is_current(live: &DynamicObject, child: &Child) -> bool {
    was_applied(live, child) && has_all(live, child)
}

/// Whether what is wanted is what was applied last; somebody may have changed it since.
pub(crate) fn was_applied(live: &DynamicObject, child: &Child) -> bool {
    live.annotations().get(APPLIED) == Some(&stamp(child))
}

fn has_all(live: &DynamicObject, child: &Child) -> bool {
    let mut wanted = stamped(child);
    // A stored object shows its own type in lists and watches only sometimes.
    if let Value::Object(fields) = &mut wanted {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    serde_json::to_value(live).is_ok_and(|live| contains(&live, &wanted))
}

/// Whether `live` differs where the API server refuses every change: whom a binding binds to. The roles' names are those of the
/// release that installed the operator, so a release of another name needs other bindings.
pub(crate) fn is_immutably_other(live: &DynamicObject, child: &Child) -> bool {
    match child.kind {
        Kind::RoleBinding | Kind::ClusterRoleBinding => live.data["roleRef"] != child.body["roleRef"],
        _ => false,
    }
}

/// Whether everything in `wanted` is in `live`.
fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| match live.get(key) {
                Some(live) => contains(live, value),
                None => is_empty(value),
            })
        }
        // Others may add elements; ours keep their order.
        (Value::Array(live), Value::Array(wanted)) => {
            let mut rest = live.iter();
            wanted.iter().all(|value| rest.any(|live| contains(live, value)))
        }
        (live, wanted) => live == wanted,
    }
}

/// The API drops what is empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
