//! What agents and schedulers may do. The rights themselves stand in roles that are installed with the operator; here are
//! the bindings.

use serde_json::json;

use super::{Blueprint, Child, Component, Kind};

/// Both everywhere, and the agents in their own namespace, where their leases are.
pub(crate) fn all(blueprint: &Blueprint<'_>) -> [Child; 3] {
    let own = blueprint.namespace();
    let rest = |component, kind: &str, role: &str| {
        json!({
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
            "subjects": [{ "kind": "ServiceAccount", "name": blueprint.name(component), "namespace": own }],
        })
    };
    let everywhere = |component, role: &str| {
        // Of the whole Kubernetes cluster, so the namespace stands in the name: two installations must not meet here.
        let name = format!("{}-{own}", blueprint.name(component));
        let rest = rest(component, "ClusterRole", role);
        blueprint.child(Kind::ClusterRoleBinding, component, None, name, rest)
    };
    let agent_role = &blueprint.options.agent_role;
    [
        everywhere(Component::Agent, agent_role),
        everywhere(Component::Scheduler, &blueprint.options.scheduler_role),
        blueprint.child(
            Kind::RoleBinding,
            Component::Agent,
            Some(own),
            blueprint.name(Component::Agent),
            rest(Component::Agent, "Role", agent_role),
        ),
    ]
}
