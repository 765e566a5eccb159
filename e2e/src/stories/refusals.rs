//! Wishes that cannot be granted: each says what is wrong, where, and what to do, and is granted once it is put right.

use afterglow_crds::ModelDeployment;
use afterglow_crds::condition::find;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::merge;
use crate::traffic::Traffic;
use crate::world::{FIRST_START, MINILM, World, shown};

const NAMESPACE: &str = "wishes";

/// A wish, and what must be said about it.
struct Wish {
    name: &'static str,
    /// Merged into the spec of a deployment that would be served.
    spec: Value,
    /// Reason of the Ready condition.
    reason: &'static str,
    /// Words that its message must hold.
    words: Vec<String>,
    /// Merged to put it right.
    cure: Value,
}

pub(super) async fn an_impossible_wish_says_what_is_wrong_and_disturbs_nobody(
    world: &mut World,
) -> Result<()> {
    // Node 3 is left free for the wishes to be tried on.
    world.minilm("minilm-2", 2).await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    world.apply(&[namespace])?;

    // A family that does not exist is no wish at all: the API server knows the names.
    let mut misspelt = world.models.deployment(NAMESPACE, "misspelt", "perceptron", 1)?;
    misspelt["spec"]["requirements"] = json!({"families": ["Quadro"]});
    let refused = world.apply(&[misspelt]);
    ensure!(
        refused
            .as_ref()
            .is_err_and(|error| format!("{error:#}").contains("Quadro")),
        "a family that does not exist was not refused by name: {refused:?}"
    );

    let traffic = Traffic::start(world)?;
    let wishes = wishes(world)?;
    for wish in &wishes {
        let mut object = world.models.deployment(NAMESPACE, wish.name, "perceptron", 1)?;
        merge(&mut object["spec"], &wish.spec);
        world.apply(&[object])?;
    }
    for wish in &wishes {
        world
            .until(
                &format!("{} is refused in words", wish.name),
                FIRST_START,
                async || refused_in_words(world, wish).await,
            )
            .await?;
    }
    for wish in &wishes {
        let patch = json!({"spec": wish.cure}).to_string();
        let object = format!("modeldeployment/{}", wish.name);
        world.kubectl(&["patch", "-n", NAMESPACE, &object, "--type=merge", "-p", &patch])?;
    }
    for wish in &wishes {
        world
            .deployment_ready(NAMESPACE, wish.name, 1, FIRST_START)
            .await?;
    }
    world.deployment_ready("default", MINILM, 2, FIRST_START).await?;
    traffic
        .nothing_lost()
        .await
        .context("requests to a model that had nothing to do with it")?;
    world.kubectl(&["delete", "namespace", NAMESPACE, "--timeout=180s"])?;
    Ok(())
}

fn wishes(world: &World) -> Result<Vec<Wish>> {
    let models = &world.models;
    let right = json!({"model": {"source": {"uri": models.uri("perceptron")?, "digest": models.digest("perceptron")?}}});
    let source = |name: &str| -> Result<Value> {
        Ok(json!({"model": {"source": {"uri": models.uri(name)?, "digest": models.digest(name)?}}}))
    };
    let nothing = models.uri("nothing")?;
    Ok(vec![
        Wish {
            name: "too-big",
            spec: json!({"requirements": {"memory": "10Ti"}}),
            reason: "NoDeviceFits",
            words: vec!["10Ti".to_owned(), "memory".to_owned()],
            cure: json!({"requirements": {"memory": "1Mi"}}),
        },
        Wish {
            name: "no-such-card",
            spec: json!({"requirements": {"families": ["Vega"]}}),
            reason: "NoDeviceFits",
            words: vec!["Vega".to_owned()],
            cure: json!({"requirements": {"families": []}}),
        },
        Wish {
            name: "wrong-digest",
            spec: json!({"model": {"source": {"digest": models.digest("increment")?}}}),
            reason: "ReplicaFailed",
            words: vec![
                "DigestMismatch".to_owned(),
                models.digest("increment")?.to_owned(),
                models.digest("perceptron")?.to_owned(),
            ],
            cure: right.clone(),
        },
        Wish {
            name: "no-such-file",
            spec: json!({"model": {"source": {"uri": nothing}}}),
            reason: "ReplicaFailed",
            words: vec!["SourceNotFound".to_owned(), nothing, "404".to_owned()],
            cure: right.clone(),
        },
        Wish {
            name: "broken",
            spec: source("truncated")?,
            reason: "ReplicaFailed",
            words: vec!["ModelInvalid".to_owned()],
            cure: right.clone(),
        },
        Wish {
            name: "inexact",
            spec: source("perceptron-exact")?,
            reason: "ReplicaFailed",
            words: vec!["ProbeMismatch".to_owned()],
            cure: right,
        },
    ])
}

/// Fails while the condition and an event do not say it.
async fn refused_in_words(world: &World, wish: &Wish) -> Result<()> {
    let found: ModelDeployment = world.namespaced(NAMESPACE, wish.name).await?;
    let conditions = found.status.map(|status| status.conditions).unwrap_or_default();
    let ready = find(&conditions, "Ready").with_context(|| shown(&conditions))?;
    ensure!(
        ready.status == "False" && ready.reason == wish.reason,
        "{}",
        shown(&conditions)
    );
    for word in &wish.words {
        ensure!(
            ready.message.contains(word),
            "{word:?} is not in {:?}",
            ready.message
        );
    }
    let mut events = world.events(NAMESPACE, "ModelDeployment", wish.name).await?;
    for replica in world.replicas(NAMESPACE, wish.name).await? {
        let name = replica.metadata.name.unwrap_or_default();
        events.extend(world.events(NAMESPACE, "ModelReplica", &name).await?);
    }
    if !events.iter().any(|event| event.starts_with(wish.reason)) {
        bail!("no event says {}: {events:?}", wish.reason);
    }
    Ok(())
}
