//! Which revision a deployment's template is.

use std::fmt::Write as _;

use afterglow_crds::{ModelDeployment, ModelReplica, labels};
use kube::ResourceExt as _;
use sha2::{Digest as _, Sha256};

/// Number and hash of the template as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// From 1.
    pub number: i64,
    /// Of model and requirements.
    pub hash: String,
}

/// The revision of the template: the same as before if it has not changed, else one more than any there ever was.
///
/// Status and replicas both remember it, so that neither a lost status nor a crash between the two makes a revision twice.
pub(super) fn current(deployment: &ModelDeployment, own: &[ModelReplica]) -> Revision {
    let hash = template_hash(deployment);
    let (written, written_hash) = deployment
        .status
        .as_ref()
        .map_or((0, ""), |status| (status.revision, status.template_hash.as_str()));
    let on_replicas = own.iter().map(|replica| replica.spec.revision).max().unwrap_or(0);
    let newest = written.max(on_replicas);
    let same = (written == newest && written_hash == hash)
        || own.iter().any(|replica| {
            replica.spec.revision == newest && replica.labels().get(labels::TEMPLATE_HASH) == Some(&hash)
        });
    let number = if newest > 0 && same {
        newest
    } else {
        newest.saturating_add(1)
    };
    Revision { number, hash }
}

/// Hash of what makes a new revision when it changes: the model, with its name filled in, and the requirements.
fn template_hash(deployment: &ModelDeployment) -> String {
    let mut model = deployment.spec.model.clone();
    model.name = Some(crate::deployment::model_name(deployment));
    let template = serde_json::json!({ "model": model, "requirements": deployment.spec.requirements });
    short_hash(template.to_string().as_bytes(), 10)
}

/// The first hexadecimal digits of a SHA-256.
pub(crate) fn short_hash(data: &[u8], digits: usize) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(data) {
        let _ = write!(text, "{byte:02x}");
    }
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use crate::deployment::fixtures::facts;

    /// A field that is new in the kind must not be serialized where nobody set it (`skip_serializing_if`).
    #[test]
    fn a_new_release_of_the_operator_makes_no_new_revision_of_what_nobody_changed() {
        let deployment = facts(serde_json::json!({}), vec![]).deployment;
        assert_eq!(super::template_hash(&deployment), "ec50a9fab3");
    }
}
