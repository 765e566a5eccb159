//! Carries a plan out. What the API server refuses is told in the status and tried again.

use afterglow_crds::{ModelReplica, labels};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt as _};

use super::gather::Facts;
use super::plan::{Applied, Plan, Wanted};
use crate::call::{self, call};
use crate::operator::Context;

/// Makes and deletes replicas; the first error comes back beside what could be done.
#[tracing::instrument(level = "debug", skip_all)]
pub(crate) async fn apply(
    context: &Context,
    facts: &Facts,
    plan: Plan<Wanted>,
) -> (Plan<Applied>, Option<call::Error>) {
    let mut errors = plan.errors.clone();
    let namespace = facts.deployment.namespace().unwrap_or_default();
    let api: Api<ModelReplica> = Api::namespaced(context.client.clone(), &namespace);
    let mut first = None;
    let mut fail = |error: call::Error| {
        // A conflict is no news for anybody: what was seen has changed since, and is judged anew.
        if error.code() != Some(409) {
            errors.push(error.to_string());
        }
        first.get_or_insert(error);
    };

    // Deletions first: the room that they make is what the next turn's replicas need.
    for replica in &plan.delete {
        if let Err(error) = remove(context, &api, replica).await {
            fail(error);
            continue;
        }
        let why = if replica.spec.revision == plan.revision.number {
            "it is not needed any more"
        } else {
            "a newer revision replaces it"
        };
        let note = format!(
            "Removed replica {} (revision {}) from {}/{}: {why}.",
            replica.name_any(),
            replica.spec.revision,
            replica.spec.node_name,
            replica.spec.device
        );
        context
            .tell(&facts.deployment, EventType::Normal, "Removed", "Remove", note)
            .await;
    }
    let mut made = Vec::new();
    let mut made_because = Vec::new();
    for (replica, because) in plan.create.iter().zip(&plan.because) {
        match make(context, &api, replica).await {
            Ok(answer) => {
                context.expectations.expect(std::slice::from_ref(&answer));
                let note = format!(
                    "Placed replica {} (revision {}) on {}/{}: {because}.",
                    replica.name_any(),
                    replica.spec.revision,
                    replica.spec.node_name,
                    replica.spec.device
                );
                context
                    .tell(&facts.deployment, EventType::Normal, "Placed", "Place", note)
                    .await;
                made.push(answer);
                made_because.push(because.clone());
            }
            Err(error) => {
                // Without an answer it may have been made: then the watch shows it.
                if error.code().is_some() {
                    context.expectations.forget(replica);
                }
                fail(error);
            }
        }
    }
    (plan.applied(made, made_because, errors), first)
}

/// A plain create, not an apply: it must not lay hands on an object that holds the name already.
async fn make(
    context: &Context,
    api: &Api<ModelReplica>,
    replica: &ModelReplica,
) -> Result<ModelReplica, call::Error> {
    let object = format!(
        "ModelReplica {}/{}",
        replica.namespace().unwrap_or_default(),
        replica.name_any()
    );
    let params = PostParams {
        field_manager: Some(labels::OPERATOR_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let made = call(&context.metrics, "create", object, api.create(&params, replica)).await?;
    context.metrics.wrote("ModelReplica", "create");
    Ok(made)
}

async fn remove(
    context: &Context,
    api: &Api<ModelReplica>,
    replica: &ModelReplica,
) -> Result<(), call::Error> {
    let object = format!(
        "ModelReplica {}/{}",
        replica.namespace().unwrap_or_default(),
        replica.name_any()
    );
    // Only what was seen: an object that was made again under the same name, or has changed since, is judged anew.
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: replica.uid(),
            resource_version: replica.resource_version(),
        }),
        ..DeleteParams::default()
    };
    match call::call_opt(
        &context.metrics,
        "delete",
        object,
        api.delete(&replica.name_any(), &params),
    )
    .await
    {
        Ok(_) => {
            context.metrics.wrote("ModelReplica", "delete");
            Ok(())
        }
        Err(error) => Err(error),
    }
}
