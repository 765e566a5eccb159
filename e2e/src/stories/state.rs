//! What the cluster is, without what may differ from one time to the next: identities, versions, times and measurements.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use crate::world::{SYSTEM, World};

/// Our kinds and what we publish, then what the operator makes.
const LOOKS: [&[&str]; 2] = [
    &[
        "get",
        "inferenceclusters,gpunodes,modeldeployments,modelreplicas,resourceslices,deviceclasses",
        "-A",
        "-o",
        "json",
        "--request-timeout=10s",
    ],
    &[
        "get",
        "deployments,daemonsets,services,configmaps,serviceaccounts,roles,rolebindings,poddisruptionbudgets,networkpolicies,leases",
        "-n",
        SYSTEM,
        "-o",
        "json",
        "--request-timeout=10s",
    ],
];
/// Given out by the API server.
const GIVEN: [&str; 6] = [
    "uid",
    "resourceVersion",
    "generation",
    "observedGeneration",
    "managedFields",
    "creationTimestamp",
];
/// Found out by measuring, each time anew; of a lease, who holds it and since when.
const MEASURED: [&str; 10] = [
    "gflops",
    "memoryMbPerSecond",
    "uploadMbPerSecond",
    "loadMilliseconds",
    "latencies",
    "p50Microseconds",
    "holderIdentity",
    "leaseTransitions",
    "acquireTime",
    "renewTime",
];

/// Every object by kind, namespace and name.
pub(super) type State = BTreeMap<String, Value>;

/// The state now.
pub(super) fn of(world: &World) -> Result<State> {
    let mut state = State::new();
    for look in LOOKS {
        let text = world.kubectl(look)?;
        let list: Value = serde_json::from_str(&text).context("read a list of objects")?;
        for object in list["items"].as_array().into_iter().flatten() {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let metadata = &object["metadata"];
            let name = format!(
                "{} {}/{}",
                word(&object["kind"]),
                word(&metadata["namespace"]),
                word(&metadata["name"])
            );
            state.insert(name, masked(object));
        }
    }
    Ok(state)
}

/// Waits until the state is that one again; the complaint says what differs.
pub(super) async fn again(world: &World, wanted: &State, limit: Duration) -> Result<()> {
    world
        .until("the cluster is as it was", limit, async || {
            let now = of(world)?;
            let different = differences(wanted, &now);
            ensure!(
                different.is_empty(),
                "{} things differ: {}",
                different.len(),
                different[..different.len().min(12)].join("; ")
            );
            Ok(())
        })
        .await
        .with_context(|| world.picture())
}

/// Without what may differ.
fn masked(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .filter(|(name, _)| !GIVEN.contains(&name.as_str()) && !MEASURED.contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), masked(&without_memory(name, value))))
                .collect::<Map<String, Value>>(),
        ),
        Value::Array(values) => Value::Array(in_order(values.iter().map(masked).collect())),
        Value::String(text) if is_time(text) => Value::String("a time".to_owned()),
        other => other.clone(),
    }
}

/// A model's profile holds the memory that was measured; elsewhere that word is a wish, or what a device has.
fn without_memory(name: &str, value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(profile) = value.as_object_mut().filter(|_| name == "profile") {
        profile.remove("memory");
    }
    value
}

/// Conditions by their type: Kubernetes puts the one that changed last at the end.
fn in_order(mut values: Vec<Value>) -> Vec<Value> {
    if values
        .iter()
        .all(|value| value["type"].is_string() && value["status"].is_string())
    {
        values.sort_by(|one, other| one["type"].as_str().cmp(&other["type"].as_str()));
    }
    values
}

/// `2026-11-21T18:00:00Z`, with or without fractions.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes[range].iter().all(u8::is_ascii_digit);
    bytes.len() >= 20
        && bytes[4] == b'-'
        && bytes[10] == b'T'
        && bytes[bytes.len() - 1] == b'Z'
        && digits(0..4)
        && digits(5..7)
        && digits(11..13)
}

/// Where two states differ, in words.
fn differences(wanted: &State, found: &State) -> Vec<String> {
    let mut different = Vec::new();
    for (name, object) in wanted {
        match found.get(name) {
            None => different.push(format!("{name} is gone")),
            Some(now) => compare(name, object, now, &mut different),
        }
    }
    let new = found.keys().filter(|name| !wanted.contains_key(*name));
    different.extend(new.map(|name| format!("{name} is new")));
    different
}

fn compare(path: &str, wanted: &Value, found: &Value, different: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (name, value) in wanted {
                let path = format!("{path}.{name}");
                compare(&path, value, found.get(name).unwrap_or(&Value::Null), different);
            }
            let new = found.iter().filter(|(name, _)| !wanted.contains_key(*name));
            different.extend(new.map(|(name, value)| format!("{path}.{name} is {value}, was not there")));
        }
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            for (place, (wanted, found)) in wanted.iter().zip(found).enumerate() {
                compare(&format!("{path}[{place}]"), wanted, found, different);
            }
        }
        (wanted, found) if wanted != found => different.push(format!("{path} is {found}, was {wanted}")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(object: &Value) -> State {
        State::from([("ModelReplica default/a".to_owned(), masked(object))])
    }

    #[test]
    fn identities_versions_times_and_measurements_make_no_difference() {
        let before = json!({
            "metadata": {"uid": "1", "resourceVersion": "7", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"profile": {"latencies": [{"batch": 1}], "memory": "5Mi", "deviceNodes": 4}, "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00.123456Z"},
            ]},
        });
        let after = json!({
            "metadata": {"uid": "2", "resourceVersion": "9", "generation": 2, "creationTimestamp": "2027-01-01T00:00:00Z"},
            "status": {"profile": {"latencies": [], "memory": "6Mi", "deviceNodes": 4}, "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2028-02-02T00:00:00Z"},
            ]},
        });
        assert!(differences(&state(&before), &state(&after)).is_empty());
    }

    #[test]
    fn a_condition_that_changed_and_changed_back_makes_no_difference() {
        let status = |types: [&str; 2]| {
            let conditions = types.map(|type_| json!({"type": type_, "status": "True"}));
            state(&json!({"status": {"conditions": conditions, "order": ["b", "a"]}}))
        };
        let before = status(["Progressing", "Available"]);
        assert!(differences(&before, &status(["Available", "Progressing"])).is_empty());
        let other = state(
            &json!({"status": {"conditions": [{"type": "Available", "status": "True"}], "order": ["a", "b"]}}),
        );
        assert_eq!(differences(&before, &other).len(), 3);
    }

    #[test]
    fn what_differs_is_named_with_its_place() {
        let before = state(&json!({"status": {"conditions": [{"status": "True"}], "node": "a"}}));
        let after = state(&json!({"status": {"conditions": [{"status": "False"}], "extra": 1}}));
        assert_eq!(
            differences(&before, &after),
            [
                "ModelReplica default/a.status.conditions[0].status is \"False\", was \"True\"",
                "ModelReplica default/a.status.node is null, was \"a\"",
                "ModelReplica default/a.status.extra is 1, was not there",
            ]
        );
        assert_eq!(
            differences(&before, &State::new()),
            ["ModelReplica default/a is gone"]
        );
        assert_eq!(
            differences(&State::new(), &before),
            ["ModelReplica default/a is new"]
        );
    }

    #[test]
    fn a_time_is_told_from_other_texts() {
        assert!(is_time("2026-11-21T18:00:00Z") && is_time("2026-11-21T18:00:00.000001Z"));
        for text in [
            "",
            "Ready",
            "sha256:2026-11-21T18:00:00Z",
            "node2 does not serve T at all Z",
            "äöüäöüäöüäöü",
        ] {
            assert!(!is_time(text), "{text}");
        }
    }
}
