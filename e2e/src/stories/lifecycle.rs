//! From one release to the next, and the end: an upgrade loses no request, a removal leaves nothing.

mod remains;

use std::path::{Path, PathBuf};

use afterglow_crds::{GpuNode, InferenceCluster, labels};
use anyhow::{Context, Result, ensure};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use crate::traffic::Traffic;
use crate::world::{FIRST_START, MINILM, SOON, SYSTEM, World};

/// How long goodbyes may take: agents let requests end, and the kubelet lets pods end.
const FAREWELL: &str = "--timeout=180s";
/// Answers that are wanted after the upgrade, from what then runs.
const AFTERWARDS: usize = 40;

pub(super) async fn helm_upgrade_from_the_previous_chart_with_changed_kinds_loses_no_request(
    world: &mut World,
) -> Result<()> {
    remove(world)?;
    let package = previous(world)?;
    let values = package.with_file_name("values.yaml");
    install(world, &package.to_string_lossy(), &values, &[])?;
    world.cluster_ready("default", FIRST_START).await?;
    world.apply(&[world.models.deployment("default", MINILM, "minilm-1", 2)?])?;
    world.deployment_ready("default", MINILM, 2, FIRST_START).await?;
    // What the new kinds bring: GpuNodes can be asked for by cluster.
    let by_cluster = ListParams::default().fields("spec.cluster=default");
    let gpu_nodes: Api<GpuNode> = Api::all(world.client.clone());
    ensure!(
        gpu_nodes.list(&by_cluster).await.is_err(),
        "the previous chart's kinds know what only the new ones should: name a change of the kinds in this story"
    );
    let before = release(world)?;

    let traffic = Traffic::start(world)?;
    world
        .until("the old release answers", SOON, async || {
            ensure!(traffic.so_far().plain > 0, "no answer yet");
            Ok(())
        })
        .await?;
    world.install().context("upgrade to this chart")?;
    let after = release(world)?;
    ensure!(before != after, "the release is still of {before}");
    world
        .until("the new kinds are in force", SOON, async || {
            let found = gpu_nodes.list(&by_cluster).await?.items.len();
            ensure!(found >= 3, "the cluster has {found} GpuNodes");
            Ok(())
        })
        .await?;
    world.cluster_ready("default", FIRST_START).await?;
    world.deployment_ready("default", MINILM, 2, FIRST_START).await?;
    let upgraded = traffic.so_far().plain;
    world
        .until("the new release answers", SOON, async || {
            let answers = traffic.so_far().plain - upgraded;
            ensure!(answers >= AFTERWARDS, "{answers} answers");
            Ok(())
        })
        .await?;
    let tally = traffic.nothing_lost().await?;
    anstream::println!(
        "    {before} became {after}: {} requests, none lost; the longest took {:.1} s",
        tally.plain + tally.prompted + tally.tensors,
        tally.longest.as_secs_f64()
    );
    Ok(())
}

pub(super) async fn deleting_the_clusters_and_uninstalling_leaves_nothing(world: &mut World) -> Result<()> {
    world.minilm("minilm-1", 2).await?;
    // In the wrong order first: nobody is there to clean up, and nothing is lost by that.
    world.helm(&[
        "uninstall",
        "afterglow",
        "--namespace",
        SYSTEM,
        "--wait",
        FAREWELL,
    ])?;
    world.kubectl(&["delete", "inferencecluster", "default", "--wait=false"])?;
    let waiting: InferenceCluster = world.cluster_scoped("default").await?;
    ensure!(
        waiting
            .finalizers()
            .iter()
            .any(|name| name == labels::CLUSTER_FINALIZER),
        "the cluster is gone without its operator"
    );
    let values = world.tools.root.join("e2e/values.yaml");
    install(world, &world.chart(), &values, &["--set", "cluster.create=false"])?;
    world
        .kubectl(&["wait", "--for=delete", "inferencecluster/default", FAREWELL])
        .context("an operator that is installed again finishes what was begun without it")?;

    // In the right order, from a cluster that serves.
    world.minilm("minilm-1", 2).await?;
    let looked_at = remains::on_nodes(world)?;
    remove(world)?;
    world
        .until("nothing of ours is in the API", SOON, async || {
            let left = remains::in_the_api(world)?;
            ensure!(left.is_empty(), "there are {}", left.join(", "));
            Ok(())
        })
        .await?;
    world
        .until("nothing of ours runs or lies on the nodes", SOON, async || {
            let left = remains::on_nodes(world)?;
            ensure!(left.is_empty(), "there are {}", left.join(", "));
            Ok(())
        })
        .await?;
    let kept = remains::caches(world)?;
    anstream::println!(
        "    {} processes and files were on the nodes and are gone; {} keep the models' cache, as documented",
        looked_at.len(),
        kept.len()
    );
    ensure!(!looked_at.is_empty(), "nothing was there to be removed");
    Ok(())
}

/// As docs/guide/helm.md says, to the end; what is not there is no error.
fn remove(world: &World) -> Result<()> {
    let crd = [
        "get",
        "crd",
        "inferenceclusters.afterglow.dev",
        "--ignore-not-found",
    ];
    if !world.kubectl(&crd)?.is_empty() {
        // Clusters wait for their operator.
        world.install()?;
        for kind in ["modeldeployments", "inferenceclusters"] {
            world
                .kubectl(&["delete", kind, "--all", "--all-namespaces", FAREWELL])
                .with_context(|| format!("delete all {kind}"))?;
        }
    }
    world.helm(&[
        "uninstall",
        "afterglow",
        "--namespace",
        SYSTEM,
        "--ignore-not-found",
        "--wait",
        FAREWELL,
    ])?;
    world
        .kubectl(&[
            "delete",
            "crd",
            "inferenceclusters.afterglow.dev",
            "modeldeployments.afterglow.dev",
            "modelreplicas.afterglow.dev",
            "gpunodes.afterglow.dev",
            "--ignore-not-found",
            FAREWELL,
        ])
        .map(drop)
}

/// `helm upgrade --install` of a chart with a file of values and further words.
fn install(world: &World, chart: &str, values: &Path, more: &[&str]) -> Result<()> {
    let values = values.to_string_lossy();
    let call = [
        "upgrade",
        "--install",
        "afterglow",
        chart,
        "--namespace",
        SYSTEM,
        "--create-namespace",
        "--values",
        &values,
        "--wait",
        FAREWELL,
    ];
    world
        .helm(&[&call, more].concat())
        .map(drop)
        .with_context(|| format!("install {chart}"))
}

/// The package of the last release, as tests/chart/previous/README.md describes it.
fn previous(world: &World) -> Result<PathBuf> {
    let folder = world.tools.root.join("tests/chart/previous");
    let mut packages: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("read {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "tgz"))
        .collect();
    ensure!(
        packages.len() == 1,
        "{} holds {} packages, not one",
        folder.display(),
        packages.len()
    );
    packages.pop().context("there is one")
}

/// Name and version of the chart that the release is of.
fn release(world: &World) -> Result<String> {
    let listed = world.helm(&[
        "list",
        "--namespace",
        SYSTEM,
        "--filter",
        "^afterglow$",
        "--output",
        "json",
    ])?;
    let listed: Value = serde_json::from_str(&listed).context("read helm's list")?;
    listed[0]["chart"]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("helm lists no release afterglow: {listed}"))
}
