//! What is wrong with a cluster's spec that the API server could not see. None of it stops what is right.

use kube::core::Selector;

use super::gather::Facts;

/// Something that its owner should change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// For programs.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: String,
}

/// Every problem.
#[tracing::instrument(level = "debug", skip_all)]
pub(crate) fn check(facts: &Facts) -> Vec<Problem> {
    let spec = &facts.cluster.spec;
    let mut problems = Vec::new();
    if let Some(selector) = &spec.namespace_selector
        && let Err(error) = Selector::try_from(selector.clone())
    {
        problems.push(Problem {
            reason: "NamespaceSelectorInvalid",
            message: format!("spec.namespaceSelector cannot be used, so no namespace is served: {error}."),
        });
    }
    if afterglow_crds::quantity::bytes(&spec.agent.cache.size).is_none() {
        problems.push(Problem {
            reason: "CacheSizeInvalid",
            message: format!(
                "spec.agent.cache.size {:?} is no size; write one such as 50Gi.",
                spec.agent.cache.size.0
            ),
        });
    }
    problems
}
