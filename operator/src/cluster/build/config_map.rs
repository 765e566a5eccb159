//! What the schedulers read, and read again when it changes: so it is not a part of their pods' template.

use serde_json::json;

use super::{Blueprint, Child, Component, Kind};

/// `scheduler.yaml`.
pub(crate) fn scheduler(blueprint: &Blueprint<'_>) -> Child {
    let spec = &blueprint.cluster.spec;
    // JSON is YAML, and quotes itself.
    let config = json!({
        "strategy": spec.scheduler.strategy,
        "defaultNamespace": spec.default_namespace,
    });
    let rest = json!({ "data": { "scheduler.yaml": format!("{config:#}\n") } });
    let name = blueprint.name(Component::Scheduler);
    blueprint.child(
        Kind::ConfigMap,
        Component::Scheduler,
        Some(blueprint.namespace()),
        name,
        rest,
    )
}
