//! Who agents and schedulers are to the API server.

use serde_json::json;

use super::{Blueprint, Child, Component, Kind};

/// One each.
pub(crate) fn both(blueprint: &Blueprint<'_>) -> [Child; 2] {
    [Component::Agent, Component::Scheduler].map(|component| {
        let name = blueprint.name(component);
        blueprint.child(
            Kind::ServiceAccount,
            component,
            Some(blueprint.namespace()),
            name,
            json!({}),
        )
    })
}
