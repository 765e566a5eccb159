//! Whose an `InferenceCluster` is. Operators in several namespaces share the kinds, and each works only for clusters of its
//! own: what another has made, and agents whose leases lie in another namespace, mean nothing here.
//!
//! The first operator that sees a cluster writes its namespace onto it, with the resourceVersion that it saw, so that one of
//! two wins.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// On an `InferenceCluster`: the namespace of the operator that works for it.
pub(crate) const OPERATED_FROM: &str = "afterglow.dev/operated-from";

/// Whose a cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// This operator's.
    Ours,
    /// Nobody's yet, or of an operator whose namespace is gone.
    Free,
    /// Of the operator in another namespace.
    Elsewhere(String),
}

/// Reads it off the cluster; `own` is this operator's namespace, `exists` says which namespaces there are.
pub(crate) fn claim(cluster: &ObjectMeta, own: &str, exists: impl Fn(&str) -> bool) -> Claim {
    let claimed = cluster
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(OPERATED_FROM));
    match claimed {
        Some(namespace) if namespace == own => Claim::Ours,
        Some(namespace) if exists(namespace) => Claim::Elsewhere(namespace.clone()),
        _ => Claim::Free,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_its_first_operators_as_long_as_that_ones_namespace_exists() {
        let of = |namespace: &str| ObjectMeta {
            annotations: Some([(OPERATED_FROM.to_owned(), namespace.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let claim = |meta: &ObjectMeta| claim(meta, "b", |namespace| ["a", "b"].contains(&namespace));
        assert_eq!(claim(&ObjectMeta::default()), Claim::Free);
        assert_eq!(claim(&of("b")), Claim::Ours);
        assert_eq!(claim(&of("a")), Claim::Elsewhere("a".to_owned()));
        assert_eq!(claim(&of("gone")), Claim::Free);
    }
}
