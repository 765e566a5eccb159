//! Who may talk to agents and schedulers.

use serde_json::json;

use super::{Blueprint, Child, Component, Kind};

/// Agents listen to their cluster's schedulers only, but show their metrics to anybody; schedulers listen to everybody.
pub(crate) fn both(blueprint: &Blueprint<'_>) -> [Child; 2] {
    let own = Some(blueprint.namespace());
    let agent = json!({
        "spec": {
            "podSelector": { "matchLabels": blueprint.selector(Component::Agent) },
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{ "podSelector": { "matchLabels": blueprint.selector(Component::Scheduler) } }],
                    "ports": [{ "protocol": "TCP", "port": 9400, "endPort": 9999 }],
                },
                { "ports": [{ "protocol": "TCP", "port": 9401 }] },
            ],
        },
    });
    let scheduler = json!({
        "spec": {
            "podSelector": { "matchLabels": blueprint.selector(Component::Scheduler) },
            "policyTypes": ["Ingress"],
            "ingress": [{
                "ports": [
                    { "protocol": "TCP", "port": 8000 },
                    { "protocol": "TCP", "port": 8001 },
                    { "protocol": "TCP", "port": 8002 },
                ],
            }],
        },
    });
    [(Component::Agent, agent), (Component::Scheduler, scheduler)].map(|(component, rest)| {
        let name = blueprint.name(component);
        blueprint.child(Kind::NetworkPolicy, component, own, name, rest)
    })
}
