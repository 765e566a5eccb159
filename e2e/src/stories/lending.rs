//! A device serves models, or it is lent to somebody's pod; never both.

use std::time::Instant;

use afterglow_crds::gpu_node::{Device, TestResult};
use afterglow_crds::{GpuNode, labels};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::world::{FIRST_START, MINILM, SOON, SYSTEM, World};

const NODE: &str = "node3";

pub(super) async fn a_device_serves_models_or_is_lent_but_never_both(world: &mut World) -> Result<()> {
    world.minilm("minilm-1", 3).await?;
    let device = device(world).await?.name;
    let guest = |name: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": "default", "name": name},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "guest",
                    "image": "localhost/busybox:1",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "86400"],
                    "resources": {"claims": [{"name": "card"}]},
                }],
                "resourceClaims": [{"name": "card", "resourceClaimName": "guest"}],
            },
        })
    };
    let claim = json!({
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"namespace": "default", "name": "guest"},
        "spec": {"devices": {"requests": [{
            "name": "card", "exactly": {"deviceClassName": labels::DRIVER},
        }]}},
    });

    // Every device serves: there is none for the guest.
    world.apply(&[claim, guest("guest")])?;
    world
        .until("the guest is told that no device is free", SOON, async || {
            let pod: Pod = world.namespaced("default", "guest").await?;
            let status = pod.status.context("the guest has no status yet")?;
            let scheduled = status
                .conditions
                .iter()
                .flatten()
                .find(|condition| condition.type_ == "PodScheduled")
                .context("nobody has tried to schedule the guest yet")?;
            ensure!(
                scheduled.status == "False" && scheduled.reason.as_deref() == Some("Unschedulable"),
                "the guest is {scheduled:?}"
            );
            Ok(())
        })
        .await?;

    // Lent: the models leave first, then the guest gets it.
    let lent = Instant::now();
    lend(world, &[&device])?;
    world.kubectl(&["wait", "--for=condition=Ready", "--timeout=180s", "pod/guest"])?;
    anstream::println!(
        "    the guest had the device {:.1} s after it was to be lent",
        lent.elapsed().as_secs_f64()
    );
    let pod: Pod = world.namespaced("default", "guest").await?;
    ensure!(
        pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(NODE),
        "the guest runs elsewhere"
    );
    let replicas = world.replicas("default", MINILM).await?;
    ensure!(
        replicas.iter().all(|replica| replica.spec.node_name != NODE),
        "a model and the guest share the device"
    );

    // An agent that starts beside the guest neither tests its device nor takes it for broken.
    let here = format!("spec.nodeName={NODE}");
    let agent = [
        "-l",
        "app.kubernetes.io/component=agent",
        "--field-selector",
        &here,
    ];
    world.kubectl(&[&["delete", "pod", "-n", SYSTEM, "--timeout=120s"], &agent[..]].concat())?;
    world
        .until(
            "the next agent leaves the device to the guest",
            SOON,
            async || {
                let device = self::device(world).await?;
                ensure!(
                    device.self_test.result == TestResult::NotRun
                        && device.not_offered_because.contains("lent"),
                    "it is {device:?}"
                );
                Ok(())
            },
        )
        .await?;

    // Asked back, and kept until the guest has gone.
    lend(world, &[])?;
    ensure!(
        world
            .replicas("default", MINILM)
            .await?
            .iter()
            .all(|replica| replica.spec.node_name != NODE),
        "a model was placed while the guest still holds the device"
    );
    world.kubectl(&["delete", "pod/guest", "resourceclaim/guest", "--timeout=60s"])?;
    world
        .until("the device is tested and offered again", SOON, async || {
            let device = self::device(world).await?;
            ensure!(
                device.offered && device.self_test.result == TestResult::Passed,
                "it is {device:?}"
            );
            Ok(())
        })
        .await?;
    world.deployment_ready("default", MINILM, 3, FIRST_START).await?;
    world.minilm("minilm-1", 1).await?;
    Ok(())
}

async fn device(world: &World) -> Result<Device> {
    let node: GpuNode = world.cluster_scoped(NODE).await?;
    node.status
        .and_then(|status| status.devices.first().cloned())
        .with_context(|| format!("{NODE} has no device"))
}

fn lend(world: &World, devices: &[&str]) -> Result<()> {
    let patch = json!({"spec": {"lend": devices}}).to_string();
    let node = format!("gpunode/{NODE}");
    world
        .kubectl(&["patch", &node, "--type=merge", "-p", &patch])
        .map(drop)
}
