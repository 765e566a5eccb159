//! A node whose agent runs over the kernel driver that Mesa's own tests stand in for an RX 580: found and compiled for like
//! the real card, but nothing is ever computed there. So the self-test must fail, and nothing may be placed on it.

use afterglow_crds::condition::find;
use afterglow_crds::gpu_node::{DeviceType, Family, TestResult};
use afterglow_crds::{GpuNode, ModelDeployment};
use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::world::{FIRST_START, SOON, World, shown};

const NODE: &str = "node4";

pub(super) async fn a_card_that_computes_wrong_is_shown_and_never_offered(world: &mut World) -> Result<()> {
    world.install()?;
    if !world.shim_loaded {
        let archive = world
            .tools
            .images()
            .into_iter()
            .find(|path| path.ends_with("afterglow-agent-polaris-shim.tar"))
            .context(
                "target/images has no afterglow-agent-polaris-shim.tar: images/build.sh agent-polaris-shim",
            )?;
        world.provider.load(&archive)?;
        world.shim_loaded = true;
    }
    let cluster = json!({
        "apiVersion": "afterglow.dev/v1alpha1",
        "kind": "InferenceCluster",
        "metadata": {"name": "polaris"},
        "spec": {
            "agent": {
                "image": format!("localhost/afterglow-agent-polaris-shim:{}", env!("CARGO_PKG_VERSION")),
                "devices": "None",
                "nodeSelector": {"afterglow.dev/pool": "polaris"},
            },
            "scheduler": {"replicas": 1},
        },
    });
    world.apply(&[cluster])?;
    world
        .until(
            "node4 shows the card and what is wrong with it",
            FIRST_START,
            async || shown_and_not_offered(world).await,
        )
        .await?;
    let listed = world.kubectl(&["get", "gpunodes", NODE])?;
    ensure!(
        listed.contains("RX 580"),
        "kubectl get gpunodes does not show the card:\n{listed}"
    );

    let mut wish = world
        .models
        .deployment("default", "for-polaris", "perceptron", 1)?;
    wish["spec"]["cluster"] = json!("polaris");
    wish["spec"]["requirements"] = json!({"families": ["Polaris"]});
    world.apply(&[wish])?;
    world
        .until("the deployment says that no device fits", SOON, async || {
            let found: ModelDeployment = world.namespaced("default", "for-polaris").await?;
            let conditions = found.status.map(|status| status.conditions).unwrap_or_default();
            let ready = find(&conditions, "Ready").with_context(|| shown(&conditions))?;
            ensure!(
                ready.status == "False" && ready.reason == "NoDeviceFits" && ready.message.contains(NODE),
                "{}",
                shown(&conditions)
            );
            Ok(())
        })
        .await?;
    ensure!(
        world.replicas("default", "for-polaris").await?.is_empty(),
        "something was placed on a card that failed its test"
    );
    world.kubectl(&["delete", "modeldeployment", "for-polaris", "--timeout=60s"])?;
    world.kubectl(&["delete", "inferencecluster", "polaris", "--timeout=120s"])?;
    Ok(())
}

async fn shown_and_not_offered(world: &World) -> Result<()> {
    let found: GpuNode = world.cluster_scoped(NODE).await?;
    let status = found.status.context("its GpuNode has no status")?;
    let card = status
        .devices
        .iter()
        .find(|device| device.type_ == DeviceType::Gpu)
        .with_context(|| format!("no GPU among {:?}", status.devices))?;
    ensure!(
        card.family == Family::Polaris && card.compute_units == 36 && card.product_name.contains("RX 580"),
        "the card is {card:?}"
    );
    ensure!(
        card.self_test.result == TestResult::Failed && !card.self_test.message.is_empty(),
        "its test is {:?}",
        card.self_test
    );
    ensure!(
        !card.offered && !card.not_offered_because.is_empty() && status.offered == 0,
        "it is offered"
    );
    let degraded = find(&status.conditions, "Degraded").with_context(|| shown(&status.conditions))?;
    ensure!(
        degraded.status == "True" && degraded.message.contains(&card.name),
        "{}",
        shown(&status.conditions)
    );
    let events = world.events("default", "GpuNode", NODE).await?;
    ensure!(
        events.iter().any(|event| event.contains(&card.name)),
        "no event tells of it: {events:?}"
    );
    Ok(())
}
