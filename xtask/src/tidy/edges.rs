//! Who may know whom among our own crates. What third parties a crate may use stands in `deny.toml`.

use std::collections::BTreeSet;

use serde::Deserialize;

/// Crate, and the crates of ours it may depend on. A crate that is not listed here is a complaint: whoever adds a room
/// says where it stands. The table of rooms in ARCHITECTURE.md says the same to readers.
const ALLOWED: [(&str, &[&str]); 16] = [
    // The composition root of one machine: the only one that joins hands.
    (
        "afterglow",
        &[
            "afterglow-agent",
            "afterglow-crds",
            "afterglow-policy",
            "afterglow-scheduler",
            "afterglow-telemetry",
        ],
    ),
    (
        "afterglow-agent",
        &[
            "afterglow-crds",
            "afterglow-policy",
            "afterglow-proto",
            "afterglow-telemetry",
        ],
    ),
    ("afterglow-crds", &[]),
    // Stories meet the platform as its users do: through the API, the chart and the wire.
    ("afterglow-e2e", &["afterglow-crds", "afterglow-proto"]),
    (
        "afterglow-engine",
        &[
            "afterglow-policy",
            "afterglow-proto",
            "afterglow-telemetry",
            "opencl-kernels",
            "ort-ep-sys",
        ],
    ),
    (
        "afterglow-operator",
        &["afterglow-crds", "afterglow-policy", "afterglow-telemetry"],
    ),
    // The operator is met as a program; what starts programs and finds them is the cluster's.
    ("afterglow-operator-tests", &["afterglow-crds", "afterglow-e2e"]),
    ("afterglow-policy", &[]),
    ("afterglow-proto", &[]),
    (
        "afterglow-scheduler",
        &[
            "afterglow-crds",
            "afterglow-policy",
            "afterglow-proto",
            "afterglow-telemetry",
        ],
    ),
    ("afterglow-telemetry", &[]),
    // Stories across crates: the decisions of all three hands in one world without a network.
    (
        "afterglow-simulation",
        &[
            "afterglow-agent",
            "afterglow-crds",
            "afterglow-operator",
            "afterglow-policy",
            "afterglow-proto",
            "afterglow-scheduler",
        ],
    ),
    ("opencl-ep", &["opencl-kernels", "ort-ep-sys"]),
    ("opencl-kernels", &[]),
    ("ort-ep-sys", &[]),
    ("xtask", &["afterglow-crds"]),
];

/// The part of `cargo metadata` that is read.
#[derive(Deserialize)]
pub(super) struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev` for dependencies of tests, which may reach further.
    kind: Option<String>,
}

pub(super) fn check(metadata: &Metadata) -> Vec<String> {
    let ours: BTreeSet<&str> = metadata
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let mut complaints = Vec::new();
    for Package { name, dependencies } in &metadata.packages {
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| known == name) else {
            complaints.push(format!(
                "{name}: not in the table of crate edges (xtask/src/tidy/edges.rs)"
            ));
            continue;
        };
        for dependency in dependencies {
            let known = &dependency.name.as_str();
            let tests_only = dependency.kind.as_deref() == Some("dev");
            if ours.contains(known) && !tests_only && !allowed.contains(known) {
                complaints.push(format!(
                    "{name} must not depend on {known} (xtask/src/tidy/edges.rs)"
                ));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(json: &str) -> Vec<String> {
        check(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_leaf_that_knows_another_crate_of_ours_is_refused() {
        let found = complaints(
            r#"{"packages": [
                {"name": "afterglow-proto", "dependencies": [{"name": "afterglow-policy", "kind": null}]},
                {"name": "afterglow-policy", "dependencies": [{"name": "serde", "kind": null}]}
            ]}"#,
        );
        assert_eq!(
            found,
            ["afterglow-proto must not depend on afterglow-policy (xtask/src/tidy/edges.rs)"]
        );
    }

    #[test]
    fn tests_may_reach_further_than_code() {
        let found = complaints(
            r#"{"packages": [
                {"name": "afterglow-proto", "dependencies": [{"name": "afterglow-policy", "kind": "dev"}]},
                {"name": "afterglow-policy", "dependencies": []}
            ]}"#,
        );
        assert!(found.is_empty());
    }

    #[test]
    fn a_new_crate_must_be_placed() {
        let found = complaints(r#"{"packages": [{"name": "stranger", "dependencies": []}]}"#);
        assert_eq!(found.len(), 1);
    }
}
