//! How many schedulers may be drained at once.

use serde_json::json;

use super::{Blueprint, Child, Component, Kind};

/// One at a time; with a single scheduler there is nothing to keep, and no node could ever be drained.
pub(crate) fn scheduler(blueprint: &Blueprint<'_>) -> Option<Child> {
    let kept = blueprint.cluster.spec.scheduler.replicas.saturating_sub(1);
    if kept < 1 {
        return None;
    }
    let rest = json!({
        "spec": {
            "minAvailable": kept,
            "selector": { "matchLabels": blueprint.selector(Component::Scheduler) },
        },
    });
    let name = blueprint.name(Component::Scheduler);
    Some(blueprint.child(
        Kind::PodDisruptionBudget,
        Component::Scheduler,
        Some(blueprint.namespace()),
        name,
        rest,
    ))
}
