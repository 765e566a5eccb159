//! Wishes that change all the time, are refused midway, or make no sense.

use std::time::{Duration, Instant};

use afterglow_operator_tests::proxy::{Call, Verb};
use afterglow_operator_tests::server::Server;
use afterglow_operator_tests::wait::{until, verdict};
use afterglow_operator_tests::world::{MODEL, REST};
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::scene::{Scene, seconds};

/// OP22.
#[tokio::test]
async fn a_spec_that_flaps_at_ten_hertz_ends_at_the_last_wish() -> Result<()> {
    let scene = Scene::new("op22", 1).await?;
    let world = &scene.world;
    let mark = scene.proxy.record().mark();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let flaps = 150;
    for turn in 0..flaps {
        tick.tick().await;
        world
            .change(MODEL, json!({ "replicas": if turn % 2 == 0 { 3 } else { 1 } }))
            .await?;
    }
    world.change(MODEL, json!({ "replicas": 2 })).await?;
    world.serves(MODEL, 2).await?;
    let made = scene.done(mark, Verb::Create, "modelreplicas").len();
    println!("{made} replicas made for {flaps} flaps");
    ensure!(made <= flaps, "{made} replicas made for {flaps} flaps");
    world.change(MODEL, json!({ "replicas": 0 })).await?;
    world.serves(MODEL, 0).await?;
    world.change(MODEL, json!({ "replicas": 3 })).await?;
    world.serves(MODEL, 3).await?;
    scene.end().await
}

/// OP23: as a quota, a webhook or Pod Security would.
#[tokio::test]
async fn a_denial_midway_is_a_condition_with_its_words_and_ends_when_it_is_lifted() -> Result<()> {
    // A server of its own: whatever happens to a node asks everybody to look again, and other worlds have nodes.
    let server = Server::start("op23")?;
    let scene = Scene::among(&server, "op23", 3, 1).await?;
    let world = &scene.world;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.admin.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.admin.clone());
    let policy = serde_json::from_value(json!({ "metadata": { "name": "op23" }, "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": { "resourceRules": [{
            "apiGroups": ["afterglow.dev"], "apiVersions": ["*"], "resources": ["modelreplicas"], "operations": ["CREATE"],
        }]},
        "validations": [{ "expression": "false", "message": "no more cards for you" }],
    }}))?;
    policies.create(&PostParams::default(), &policy).await?;
    let binding = serde_json::from_value(json!({ "metadata": { "name": "op23" }, "spec": {
        "policyName": "op23", "validationActions": ["Deny"],
        "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": world.team } } },
    }}))?;
    bindings.create(&PostParams::default(), &binding).await?;
    until("op23: the policy denies", REST, async || {
        let stranger = serde_json::from_value(json!({ "metadata": { "name": "x" }, "spec": {
            "cluster": "x", "nodeName": "x", "device": "x", "revision": 1, "memory": "1",
            "model": { "name": "x", "source": { "uri": "https://x.test/m.onnx", "digest": format!("sha256:{}", "1".repeat(64)) } },
        }}))?;
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let said = world.replicas().create(&dry, &stranger).await;
        Ok(verdict(said.is_err(), || "it does not yet".to_owned()))
    })
    .await?;
    world.change(MODEL, json!({ "replicas": 2 })).await?;
    until("op23: the denial is told", REST, async || {
        let words = world.words(MODEL).await?;
        Ok(verdict(
            words.0 == "ApplyFailed" && words.1.contains("no more cards for you"),
            || format!("{words:?}"),
        ))
    })
    .await?;
    let mark = scene.proxy.record().mark();
    tokio::time::sleep(seconds(8)).await;
    let asked = scene.proxy.record().work_since(mark);
    let is_try = |call: &Call| call.verb == Verb::Create && call.is_of("modelreplicas");
    let tries = asked.iter().filter(|entry| is_try(&entry.call)).count();
    ensure!(tries <= 6, "{tries} tries in eight seconds");
    bindings.delete("op23", &DeleteParams::default()).await?;
    policies.delete("op23", &DeleteParams::default()).await?;
    world.serves(MODEL, 2).await?;
    scene.end().await
}

/// OP20: what the rules of the kinds let through, at its odd ends.
#[tokio::test]
async fn every_wish_that_the_api_server_takes_gets_a_condition_and_none_ends_the_operator() -> Result<()> {
    let mut scene = Scene::new("op20", 1).await?;
    let world = &scene.world;
    let odd = [
        json!({ "replicas": 1000 }),
        json!({ "requirements": { "memory": "8Ei" } }),
        json!({ "requirements": { "memory": "1e9" } }),
        json!({ "requirements": { "memory": "1" } }),
        json!({ "requirements": { "memory": "0.5Gi" } }),
        json!({ "requirements": { "memory": "99999999999999999999" } }),
        json!({ "requirements": { "families": ["Navi3"] } }),
        json!({ "requirements": { "nodeSelector": { "größe": "ü" } } }),
        json!({ "requirements": { "nodeSelector": { "a": "\u{202e}\u{0000}\u{1f600}" } } }),
        json!({ "model": { "name": "Ünïcödé" } }),
        json!({ "model": { "name": "a".repeat(128) } }),
        json!({ "model": { "source": { "uri": format!("https://x.test/{}.onnx", "ü".repeat(900)) } } }),
        json!({ "model": { "source": { "uri": "https://x.test/%00%0a\u{7f}.onnx" } } }),
        json!({ "model": { "source": { "uri": "ftp://x.test/m.onnx" } } }),
        json!({ "model": { "source": { "uri": "s3://bucket/m.onnx" } } }),
        json!({ "model": { "source": { "uri": "pvc://none/m.onnx" } } }),
        json!({ "model": { "batching": { "maxQueue": 65536 } } }),
        json!({ "rollout": { "maxSurge": 1000, "maxUnavailable": 1000, "progressDeadlineSeconds": 86400 } }),
        json!({ "rollout": { "maxSurge": 0, "maxUnavailable": 1 } }),
        json!({ "suspend": true, "replicas": 0 }),
    ];
    let resource = ApiResource::erase::<afterglow_crds::ModelDeployment>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(world.admin.clone(), &world.team, &resource);
    let mut taken = Vec::new();
    // Twice, the second time with an annotation of almost as much as an object may have.
    for (index, spec) in odd.iter().chain(&odd).enumerate() {
        let name = format!("odd-{index}");
        let mut object = serde_json::to_value(world.wish(&name, 1, '4')?)?;
        merge(&mut object["spec"], spec);
        if index >= odd.len() {
            object["metadata"]["annotations"] = json!({ "test/long": "ü".repeat(120_000) });
        }
        let object: DynamicObject = serde_json::from_value(object)?;
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => taken.push(name),
            Err(kube::Error::Api(status)) if [400, 422].contains(&status.code) => {}
            Err(error) => return Err(error).with_context(|| format!("make {name} with {spec}")),
        }
    }
    println!("{} of {} were taken", taken.len(), 2 * odd.len());
    ensure!(taken.len() >= odd.len() / 2, "{taken:?}");
    until("op20: each has its conditions", REST, async || {
        let list = world.deployments().list(&ListParams::default()).await?;
        let silent: Vec<String> = list
            .items
            .iter()
            .filter(|one| {
                one.status
                    .as_ref()
                    .is_none_or(|status| status.conditions.is_empty())
            })
            .map(ResourceExt::name_any)
            .collect();
        Ok(verdict(silent.is_empty(), || format!("{silent:?} say nothing")))
    })
    .await?;
    scene.operator.is_well()?;
    world.serves(MODEL, 1).await?;
    world
        .deployments()
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    scene.end().await
}

/// OP21: an object that cannot be read, as one of a newer version might be.
#[tokio::test]
async fn a_poison_object_waits_longer_each_time_and_delays_nobody() -> Result<()> {
    let server = Server::start("op21")?;
    let mut scene = Scene::among(&server, "op21", 3, 1).await?;
    let world = &scene.world;
    let kinds: Api<CustomResourceDefinition> = Api::all(world.admin.clone());
    let loose = json!([{ "op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
        "value": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } }]);
    let patch: Patch<Value> = Patch::Json(serde_json::from_value(loose)?);
    kinds
        .patch("modeldeployments.afterglow.dev", &PatchParams::default(), &patch)
        .await?;
    let resource = ApiResource::erase::<afterglow_crds::ModelDeployment>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(world.admin.clone(), &world.team, &resource);
    let mut poison = serde_json::to_value(world.wish("poison", 1, '4')?)?;
    poison["spec"]["rollout"] = json!("at once");
    let poison: DynamicObject = serde_json::from_value(poison)?;
    until("op21: the kind takes it", REST, async || {
        Ok(match api.create(&PostParams::default(), &poison).await {
            Ok(_) => afterglow_operator_tests::wait::Verdict::Yes(()),
            Err(error) => afterglow_operator_tests::wait::Verdict::NotYet(error.to_string()),
        })
    })
    .await?;
    let start = Instant::now();
    while start.elapsed() < seconds(25) {
        for replicas in [2, 1] {
            world.change(MODEL, json!({ "replicas": replicas })).await?;
            // Others are served as fast as ever.
            world.serves_within(MODEL, replicas, seconds(5)).await?;
        }
    }
    let said = scene.operator.said()?;
    let failures = said
        .lines()
        .filter(|line| line.contains("reconcile failed") && line.contains("poison"))
        .count();
    println!(
        "{failures} turns of the poison object in {} s",
        start.elapsed().as_secs()
    );
    ensure!(
        (1..=7).contains(&failures),
        "{failures} turns in {} s",
        start.elapsed().as_secs()
    );
    scene.operator.is_well()?;
    api.delete("poison", &DeleteParams::default()).await?;
    scene.end().await
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
