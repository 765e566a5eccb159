//! `afterglow-C` in the namespaces of clients: the host name that they use tells the scheduler which namespace they mean.

use serde_json::json;

use super::{Blueprint, Child, Component, Kind};

/// One per namespace, an alias of the one in the operator's namespace.
pub(crate) fn all(blueprint: &Blueprint<'_>) -> Vec<Child> {
    let target = format!(
        "{}.{}.svc.{}",
        blueprint.service_name(),
        blueprint.namespace(),
        blueprint.options.cluster_domain
    );
    blueprint
        .tenants
        .iter()
        // There the real one has the name.
        .filter(|tenant| *tenant != blueprint.namespace())
        .map(|tenant| {
            let rest = json!({ "spec": { "type": "ExternalName", "externalName": target } });
            let name = blueprint.service_name();
            blueprint.child(Kind::Service, Component::Scheduler, Some(tenant), name, rest)
        })
        .collect()
}
