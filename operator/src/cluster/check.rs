//! What is wrong with a cluster that the API server could not see. None of it stops what is right.

use kube::core::Selector;

use super::build;
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
    problems.extend(contests(facts));
    problems
}

/// Whoever else writes what the operator writes, again and again.
fn contests(facts: &Facts) -> Vec<Problem> {
    let on = facts.contests.iter().filter(|(_, contest)| contest.is_on());
    let mut problems: Vec<Problem> = on
        .map(|(name, contest)| Problem {
            reason: "Conflict",
            message: format!(
                "{} changes {} again and again, and it is put back ever more slowly. Make it leave alone what the operator sets there; what \
                 the InferenceCluster's spec says can be changed there.",
                contest.by,
                build::object(name)
            ),
        })
        .collect();
    problems.sort_by(|a, b| a.message.cmp(&b.message));
    problems
}
