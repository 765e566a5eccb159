//! From a ModelDeployment to an answer.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::reference::{Reference, TEXTS};
use crate::wire;
use crate::world::{FIRST_START, MINILM, SYSTEM, World};

pub(super) async fn a_model_deployment_becomes_ready_and_answers_as_the_standalone_server_does(
    world: &mut World,
) -> Result<()> {
    world.install()?;
    world.cluster_ready("default", FIRST_START).await?;
    world.apply(&[world.models.deployment("default", MINILM, "minilm-1", 2)?])?;
    world.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "--timeout=480s",
        &format!("modeldeployment/{MINILM}"),
    ])?;
    let deployment = world.deployment_ready("default", MINILM, 2, FIRST_START).await?;
    let replicas = world.replicas("default", MINILM).await?;
    let nodes: BTreeSet<&str> = replicas
        .iter()
        .map(|replica| replica.spec.node_name.as_str())
        .collect();
    ensure!(nodes.len() == 2, "two replicas are on {nodes:?}");
    for replica in &replicas {
        let profile = replica.status.as_ref().and_then(|status| status.profile.as_ref());
        ensure!(
            profile.is_some_and(|profile| profile.device_nodes > 0),
            "a replica serves unmeasured: {profile:?}"
        );
    }

    // From outside, through a port of any node, over REST and gRPC.
    let rest = wire::rest()?;
    for (text, wanted) in TEXTS.iter().zip(&world.reference.plain) {
        let found = wire::embed(&rest, &world.rest()?, None, MINILM, text).await?;
        wire::same(&found, wanted).with_context(|| format!("the embedding of {text:?}"))?;
    }
    let mut grpc = wire::grpc(&world.grpc()?)?;
    let hidden = wire::infer_tokens(&mut grpc, MINILM, Reference::tokens()).await?;
    wire::same(&hidden, &world.reference.hidden).context("the tensors over gRPC")?;

    // From inside, by the name that the deployment's status tells.
    let url = deployment
        .status
        .and_then(|status| status.url)
        .context("the deployment does not say where it is")?;
    ensure!(
        url == "http://afterglow-default.default.svc:8000",
        "it says that it is at {url}, and the schedulers are in {SYSTEM}"
    );
    start_client(world, "default")?;
    let request = json!({"model": MINILM, "input": [TEXTS[0]], "encoding_format": "float"});
    let answer = ask_from_pod(world, "default", &format!("{url}/v1/embeddings"), &request)?;
    let found: Vec<f32> = serde_json::from_value(answer["data"][0]["embedding"].clone())
        .with_context(|| format!("read {answer}"))?;
    wire::same(&found, &world.reference.plain[0]).context("the embedding that a pod got")
}

/// A pod to ask from.
pub(super) fn start_client(world: &World, namespace: &str) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": "client"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "client",
                "image": "localhost/busybox:1",
                "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "86400"],
            }],
        },
    });
    world.apply(&[pod])?;
    world
        .kubectl(&[
            "wait",
            "-n",
            namespace,
            "--for=condition=Ready",
            "--timeout=60s",
            "pod/client",
        ])
        .map(drop)
}

/// What a pod gets for a request.
pub(super) fn ask_from_pod(world: &World, namespace: &str, url: &str, request: &Value) -> Result<Value> {
    let request = request.to_string();
    let header = "--header=Content-Type: application/json";
    let post = format!("--post-data={request}");
    let answer = world.kubectl(&[
        "exec", "-n", namespace, "client", "--", "wget", "-q", "-T", "30", "-O-", header, &post, url,
    ])?;
    serde_json::from_str(&answer).with_context(|| format!("read {answer}"))
}
