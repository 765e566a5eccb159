//! What the operator shows to say who it is.

use std::fs;
use std::path::Path;
use std::time::Instant;

use afterglow_operator_tests::operator::Setting;
use afterglow_operator_tests::oracles;
use afterglow_operator_tests::proxy::{Entry, Proxy};
use afterglow_operator_tests::server::Server;
use afterglow_operator_tests::wait::{until, verdict};
use afterglow_operator_tests::world::{MODEL, World};
use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use crate::scene::{Scene, at_most_once_a_second, seconds};

/// The account's name in `manifests/install.yaml`.
const ACCOUNT: &str = "afterglow-operator";

/// OP26: worse than a pod's, whose old token still holds for a while when its file gets the new one.
#[tokio::test]
async fn a_token_that_is_replaced_and_void_at_once_costs_a_minute_at_most_and_no_restart() -> Result<()> {
    let server = Server::shared()?;
    let world = World::with_nodes(server, "op26", 3).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(world.admin.clone(), &world.system);
    let account = serde_json::from_value(json!({ "metadata": { "name": ACCOUNT } }))?;
    accounts
        .create(&PostParams::default(), &account)
        .await
        .context("make the operator's ServiceAccount")?;
    let file = world.logs().join("token");
    replace(&file, &token(&world, "first").await?)?;
    // The proxy passes the operator's own token on: who it is, and whether it is still anybody, is the API server's to say.
    let proxy = Proxy::start(server.as_sent()?, &world.name).await?;
    let setting = Setting {
        token: Some(file.clone()),
        ..Setting::default()
    };
    let operator = world.operator_in("operator", &proxy, setting)?;
    world.set_up(2).await?;
    oracles::quiet(&world, &proxy, seconds(1)).await?;

    let mark = proxy.record().mark();
    replace(&file, &token(&world, "second").await?)?;
    // A token is bound to its Secret and ends with it.
    let secrets: Api<Secret> = Api::namespaced(world.admin.clone(), &world.system);
    secrets.delete("first", &DeleteParams::default()).await?;
    let start = Instant::now();
    let refused = || -> Vec<Entry> {
        let mut entries = proxy.record().since(mark);
        entries.retain(|entry| entry.said == Some(401));
        entries
    };
    until("op26: the old token is refused", seconds(40), async || {
        Ok(verdict(!refused().is_empty(), || "it is not".to_owned()))
    })
    .await?;
    let refused_after = start.elapsed();
    world.change(MODEL, json!({ "replicas": 3 })).await?;
    // The file is read again by the first request that comes 50 s or more after it was read last; who has lost the lease
    // meanwhile asks for it every two seconds.
    world.serves_within(MODEL, 3, seconds(60)).await?;
    let refusals = refused();
    println!(
        "the old token was refused {} times, from {} s to {} s after its end; all was served {} s after it",
        refusals.len(),
        refused_after.as_secs(),
        refusals.last().map_or(0, |last| start
            .elapsed()
            .saturating_sub(last.at.elapsed())
            .as_secs()),
        start.elapsed().as_secs()
    );
    at_most_once_a_second(&refusals, start.elapsed().as_secs())?;
    Scene::of(world, proxy, operator).end().await
}

/// A token of the operator's account that ends with a Secret of this name.
async fn token(world: &World, secret: &str) -> Result<String> {
    let secrets: Api<Secret> = Api::namespaced(world.admin.clone(), &world.system);
    let object = serde_json::from_value(json!({ "metadata": { "name": secret } }))?;
    let bound = secrets
        .create(&PostParams::default(), &object)
        .await
        .with_context(|| format!("make the Secret {secret}"))?;
    let request: TokenRequest = serde_json::from_value(json!({ "spec": {
        "audiences": [], "expirationSeconds": 3600,
        "boundObjectRef": { "apiVersion": "v1", "kind": "Secret", "name": secret, "uid": bound.metadata.uid },
    }}))?;
    let accounts: Api<ServiceAccount> = Api::namespaced(world.admin.clone(), &world.system);
    let made = accounts
        .create_token_request(ACCOUNT, &PostParams::default(), &request)
        .await
        .with_context(|| format!("ask for a token bound to the Secret {secret}"))?;
    Ok(made.status.context("a token was asked for and not given")?.token)
}

/// As the kubelet does: nobody ever reads half of it.
fn replace(file: &Path, text: &str) -> Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, text).with_context(|| format!("write {}", new.display()))?;
    fs::rename(&new, file).with_context(|| format!("replace {}", file.display()))
}
