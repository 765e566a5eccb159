//! What the scheduler says of itself and of a namespace's models, the same in every protocol.

use crate::fleet::{Fleet, Model};
use crate::snapshot::Call;

/// The server's name on the wire.
pub(super) const NAME: &str = "afterglow";
/// Our version.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Extensions that work through the scheduler. Clients act on these strings: none is listed that does not. Models come and go
/// with their `ModelDeployment`, so `model_repository` would promise too much: only its index is offered.
pub(super) const EXTENSIONS: [&str; 6] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "parameters",
    "schedule_policy",
    "statistics",
];
/// What to do instead of loading and unloading.
pub(super) const APPLY: &str =
    "models are not loaded through the scheduler; apply a ModelDeployment, or delete it to unload";
/// There is one repository, and it has no name.
pub(super) const UNNAMED: &str = "repositories have no names here; leave the name out";

/// A line of the index: one revision of one model, or a model without any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) ready: bool,
    /// Why it is not.
    pub(super) reason: String,
}

impl Entry {
    pub(super) fn state(&self) -> &'static str {
        if self.ready { "READY" } else { "UNAVAILABLE" }
    }
}

/// The index of a namespace.
pub(super) fn entries(fleet: &Fleet, namespace: &str) -> Vec<Entry> {
    fleet
        .of(namespace)
        .flat_map(|(name, model)| {
            let revisions = model.revisions();
            let each = revisions
                .iter()
                .map(|revision| entry(name, model, Some(*revision)));
            let none = revisions.is_empty().then(|| entry(name, model, None));
            each.chain(none).collect::<Vec<_>>()
        })
        .collect()
}

fn entry(name: &str, model: &Model, revision: Option<i64>) -> Entry {
    let ready = model
        .ready
        .iter()
        .any(|replica| Some(replica.revision) == revision);
    Entry {
        name: name.to_owned(),
        version: revision.map(|revision| revision.to_string()),
        ready,
        reason: if ready {
            String::new()
        } else {
            model.because(revision)
        },
    }
}

/// The revisions of the call's model that answer, ascending; with a version, that one.
pub(super) fn versions(fleet: &Fleet, call: &Call) -> Vec<String> {
    let model = fleet.model(&call.namespace, &call.model);
    let mut revisions: Vec<i64> = model
        .iter()
        .flat_map(|model| &model.ready)
        .map(|replica| replica.revision)
        .collect();
    revisions.sort_unstable();
    revisions.dedup();
    revisions
        .into_iter()
        .map(|revision| revision.to_string())
        .filter(|revision| call.version.as_ref().is_none_or(|version| version == revision))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::objects_for_tests::replica;
    use serde_json::json;

    #[test]
    fn the_index_has_a_line_for_every_revision_with_its_state() {
        let replicas = [
            replica("a", |_| {}),
            replica("b", |value| {
                value["spec"]["revision"] = json!(4);
                value["status"]["conditions"][0]["status"] = json!("False");
                value["status"]["conditions"][0]["reason"] = json!("Fetching");
            }),
        ];
        let nodes: [afterglow_crds::GpuNode; 0] = [];
        let deployments: [afterglow_crds::ModelDeployment; 0] = [];
        let fleet = crate::fleet::from_objects("main", &replicas, &nodes, &deployments);
        let lines: Vec<_> = entries(&fleet, "team")
            .into_iter()
            .map(|entry| {
                (
                    entry.name.clone(),
                    entry.version.clone().unwrap(),
                    entry.state(),
                    entry.reason,
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                ("m".to_owned(), "3".to_owned(), "READY", String::new()),
                (
                    "m".to_owned(),
                    "4".to_owned(),
                    "UNAVAILABLE",
                    "team/b: Fetching".to_owned()
                ),
            ]
        );
        assert!(entries(&fleet, "other").is_empty());
    }
}
