//! Carries a plan out. What the API server refuses is told in the status and tried again.

use afterglow_crds::{ModelReplica, labels};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt as _};

use super::failure::{self, State};
use super::fleet;
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

    let mut told = Vec::new();
    // An API server in trouble is left alone: what was not asked for is planned anew.
    let mut is_over = false;
    // Deletions first: the room that they make is what the next turn's replicas need.
    for replica in &plan.delete {
        if let Err(error) = remove(context, &api, replica).await {
            is_over = error.is_the_servers();
            fail(error);
            if is_over {
                break;
            }
            continue;
        }
        let note = format!(
            "Removed replica {} (revision {}) from {}/{}: {}.",
            replica.name_any(),
            replica.spec.revision,
            replica.spec.node_name,
            replica.spec.device,
            why_removed(facts, plan.revision.number, replica)
        );
        told.push(("Removed", "Remove", note));
    }
    let mut made = Vec::new();
    let mut made_because = Vec::new();
    let mut rest = plan.create.iter().zip(&plan.because);
    while !is_over && let Some((replica, because)) = rest.next() {
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
                told.push(("Placed", "Place", note));
                made.push(answer);
                made_because.push(because.clone());
            }
            Err(error) => {
                // Else it may have been made: then the watch shows it.
                if error.is_a_no() {
                    context.expectations.forget(replica);
                }
                is_over = error.is_the_servers();
                fail(error);
            }
        }
    }
    for (replica, _) in rest {
        context.expectations.forget(replica);
    }
    // Last, as nothing waits for them.
    for (reason, action, note) in told {
        let published = context
            .tell(&facts.deployment, EventType::Normal, reason, action, note)
            .await;
        if !published {
            break;
        }
    }
    (plan.applied(made, made_because, errors), first)
}

/// Why a replica goes, in words for people.
fn why_removed(facts: &Facts, newest: i64, replica: &ModelReplica) -> &'static str {
    if fleet::is_lent(facts, replica) {
        "the device is lent to other pods"
    } else if fleet::is_lost(facts, replica) {
        "its node is silent or gone"
    } else if fleet::is_crowded_out(facts, replica) {
        "more was promised of its device than there is"
    } else if replica.spec.revision != newest {
        "a newer revision replaces it"
    } else if failure::state(replica) == State::DeviceFailed {
        "it failed there"
    } else {
        "it is not needed any more"
    }
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
