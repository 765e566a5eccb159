//! From nothing to a cluster that offers its devices.

use afterglow_crds::condition::{READY, is_true};
use afterglow_crds::gpu_node::{DeviceType, TestResult};
use afterglow_crds::labels;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::Api;
use kube::api::ListParams;

use crate::world::{FIRST_START, SOON, World};

pub(super) async fn one_helm_install_makes_every_node_offer_its_devices(world: &mut World) -> Result<()> {
    world.install().context("helm install")?;
    world.cluster_ready("default", FIRST_START).await?;
    let nodes = Api::<Node>::all(world.client.clone())
        .list(&ListParams::default().labels("afterglow.dev/pool=main"))
        .await?
        .items;
    ensure!(
        nodes.len() >= 3,
        "three nodes are needed, {} are here",
        nodes.len()
    );
    for node in &nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        world
            .until(
                &format!("{name} offers its device everywhere"),
                SOON,
                async || offered(world, name).await,
            )
            .await?;
    }
    let shown = world.kubectl(&["get", "gpunodes"])?;
    ensure!(
        shown
            .lines()
            .filter(|line| line.contains("cpu") || line.contains("CPU"))
            .count()
            >= 3,
        "kubectl get gpunodes does not show the devices as processors:\n{shown}"
    );
    Ok(())
}

/// Fails while the node's GpuNode, label and ResourceSlice do not all say that its device is offered.
async fn offered(world: &World, name: &str) -> Result<()> {
    let found: afterglow_crds::GpuNode = world.cluster_scoped(name).await?;
    let status = found.status.context("its GpuNode has no status")?;
    ensure!(is_true(&status.conditions, READY), "its GpuNode is not Ready");
    ensure!(
        status.offered == 1 && status.devices.len() == 1,
        "its GpuNode offers {} of {}",
        status.offered,
        status.devices.len()
    );
    let device = &status.devices[0];
    ensure!(
        device.type_ == DeviceType::Cpu && device.self_test.result == TestResult::Passed,
        "its device is {device:?}"
    );

    let node: Node = world.cluster_scoped(name).await?;
    let labels = node.metadata.labels.unwrap_or_default();
    ensure!(
        labels.get(labels::NODE_DEVICES).map(String::as_str) == Some("1"),
        "the node's labels are {labels:?}"
    );

    let slices = Api::<ResourceSlice>::all(world.client.clone())
        .list(&ListParams::default().fields(&format!("spec.nodeName={name}")))
        .await?;
    let ours = slices
        .items
        .iter()
        .find(|slice| slice.spec.driver == labels::DRIVER)
        .context("it has no ResourceSlice of ours")?;
    let advertised = ours
        .spec
        .devices
        .iter()
        .flatten()
        .find(|advertised| advertised.name == device.name)
        .with_context(|| format!("its ResourceSlice does not list {}", device.name))?;
    ensure!(
        advertised
            .taints
            .iter()
            .flatten()
            .any(|taint| taint.key == labels::SERVING_TAINT),
        "{} serves models and is not tainted for others",
        device.name
    );
    Ok(())
}
