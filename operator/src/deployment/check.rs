//! Whether a deployment may be served at all, before anything is placed.

use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};

use super::gather::Facts;

/// Why nothing is placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Whether replicas that exist go too; else they go on serving.
    pub removes: bool,
}

/// `Ok`: replicas may be placed.
#[tracing::instrument(level = "debug", skip_all)]
pub fn check(facts: &Facts) -> Result<(), Refusal> {
    let deployment = &facts.deployment;
    let namespace = deployment.namespace().unwrap_or_default();
    let cluster_name = &deployment.spec.cluster;
    // What cannot be read is not gone: nothing is decided over it.
    if let Some(why) = &facts.unreadable.cluster {
        return Err(Refusal {
            reason: "ClusterUnreadable",
            message: format!(
                "InferenceCluster {cluster_name} cannot be read by this operator ({why}); what serves goes on. Correct it, or \
                 upgrade the operator if a newer one wrote it."
            ),
            removes: false,
        });
    }
    let Some(cluster) = &facts.cluster else {
        return Err(Refusal {
            reason: "ClusterNotFound",
            message: format!(
                "There is no InferenceCluster {cluster_name}, or it is being deleted. Create it, or name another in spec.cluster \
                 of a new ModelDeployment."
            ),
            removes: true,
        });
    };
    if let Some(selector) = &cluster.spec.namespace_selector {
        let allowed = Selector::try_from(selector.clone())
            .is_ok_and(|selector| selector.matches(&facts.namespace_labels));
        if !allowed {
            return Err(Refusal {
                reason: "NamespaceNotAllowed",
                message: format!(
                    "InferenceCluster {cluster_name} serves only namespaces that its spec.namespaceSelector selects; {namespace} is \
                     not one of them. Ask its owner to label the namespace."
                ),
                removes: true,
            });
        }
    }
    if let Some(rival) = facts.rivals.iter().find(|rival| {
        (&rival.created, &rival.uid) < (&deployment.metadata.creation_timestamp, &deployment.metadata.uid)
    }) {
        return Err(Refusal {
            reason: "NameTaken",
            message: format!(
                "ModelDeployment {namespace}/{} already serves the model name {:?} in this namespace. Set another spec.model.name.",
                rival.name,
                crate::deployment::model_name(deployment)
            ),
            removes: true,
        });
    }
    if let Some((name, why)) = facts.unreadable.own.first_key_value() {
        return Err(Refusal {
            reason: "ReplicaUnreadable",
            message: format!(
                "ModelReplica {namespace}/{name} cannot be read by this operator ({why}); what serves goes on. Upgrade the operator \
                 if a newer one made it, or delete it."
            ),
            removes: false,
        });
    }
    source(facts).map_err(|message| Refusal {
        reason: "SourceNotConfigured",
        message,
        removes: false,
    })
}

/// Whether the cluster's agents can reach the source at all.
fn source(facts: &Facts) -> Result<(), String> {
    let uri = &facts.deployment.spec.model.source.uri;
    let cluster = &facts.deployment.spec.cluster;
    let Some(agent) = facts.cluster.as_ref().map(|cluster| &cluster.spec.agent) else {
        return Ok(());
    };
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Err(format!(
            "spec.model.source.uri {uri:?} is no URI: it has no scheme."
        ));
    };
    match scheme {
        "http" | "https" => Ok(()),
        "s3" if agent.s3.is_some() => Ok(()),
        "s3" => Err(format!(
            "s3:// sources need spec.agent.s3 in InferenceCluster {cluster}, which has none."
        )),
        "pvc" => {
            let volume = rest.split('/').next().unwrap_or_default();
            if agent.model_volumes.iter().any(|known| known.name == volume) {
                Ok(())
            } else {
                Err(format!(
                    "{uri} names the volume {volume:?}, which is not in spec.agent.modelVolumes of InferenceCluster {cluster}."
                ))
            }
        }
        "file" => match &agent.model_path {
            Some(folder) if is_below(rest, folder) => Ok(()),
            Some(folder) => Err(format!(
                "{uri} does not lie below {folder}, which is spec.agent.modelPath of InferenceCluster {cluster}."
            )),
            None => Err(format!(
                "file:// sources need spec.agent.modelPath in InferenceCluster {cluster}, which has none."
            )),
        },
        other => Err(format!(
            "spec.model.source.uri has the scheme {other}://; known are https, http, s3, pvc and file."
        )),
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.starts_with('/'))
        && !path.split('/').any(|part| part == "..")
}
