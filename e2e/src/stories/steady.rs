//! What is served while things go wrong: a small model, because two cores have to serve it three times, run three nodes and
//! judge every answer; and each of its answers tells which question it belongs to.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::faults::Program;
use crate::load::{Load, Plan, judge};
use crate::wire;
use crate::world::{FIRST_START, SOON, SYSTEM, World};

/// The deployment, in the default namespace.
pub(super) const NAME: &str = "steady";
/// The nodes that serve it.
pub(super) const NODES: [&str; 3] = ["node1", "node2", "node3"];
/// So long without a bad request is calm.
const CALM: Duration = Duration::from_secs(5);

/// Has it served by so many replicas, and nothing else.
pub(super) async fn serve(world: &World, replicas: i32) -> Result<()> {
    world.install()?;
    world.cluster_ready("default", FIRST_START).await?;
    // Also what a story that failed has left.
    let others = format!("--field-selector=metadata.name!={NAME}");
    world.kubectl(&["delete", "modeldeployments", &others, "--timeout=120s"])?;
    world.apply(&[world.models.deployment("default", NAME, "perceptron", replicas)?])?;
    world
        .deployment_ready("default", NAME, replicas, FIRST_START)
        .await
        .map(drop)
}

/// Begins to ask, so many times a second, and waits until all is well.
pub(super) async fn load(world: &World, name: &str, rate: u32, replicas: usize) -> Result<Load> {
    let plan = Plan {
        name: name.to_owned(),
        entrances: vec![world.entrance()?],
        deployment: NAME.to_owned(),
        questions: world.reference.questions.clone(),
        rate,
    };
    let load = Load::start(world, plan)?;
    calm(world, &load, replicas, SOON)
        .await
        .context("before anything was done")?;
    Ok(load)
}

/// Waits until so many replicas answer and, for a while, every request was good.
pub(super) async fn calm(world: &World, load: &Load, replicas: usize, limit: Duration) -> Result<()> {
    let asked_at = load.clock();
    let asked = world
        .until(
            &format!("{replicas} replicas answer, and every request for 5 s"),
            limit,
            async || {
                let now = load.clock();
                let looked = load.looked().context("nobody has looked yet")?;
                // A look from before what was done just now would show what was before.
                ensure!(looked.at > asked_at, "nobody has looked since");
                ensure!(
                    looked.answering >= replicas,
                    "{} of {replicas} replicas answer",
                    looked.answering
                );
                ensure!(now > CALM, "it has only begun");
                let recent = load.ledger().since(now.saturating_sub(CALM));
                let share = judge::share(&recent);
                ensure!(
                    share.all > 0 && share.bad == 0,
                    "{} of the last {} requests were bad:{}",
                    share.bad,
                    share.all,
                    judge::shown(&recent, 3)
                );
                Ok(())
            },
        )
        .await;
    asked.with_context(|| format!("the cluster:{}", world.picture()))
}

/// Waits until so many replicas answer when their engines are asked themselves: what the API says of a node that has just
/// booted may be from before.
pub(super) async fn answering(world: &World, wanted: usize) -> Result<()> {
    let rest = wire::rest()?;
    world
        .until(
            &format!("{wanted} engines answer for {NAME}"),
            FIRST_START,
            async || {
                let mut answered = 0;
                for replica in world.replicas("default", NAME).await? {
                    let name = replica.metadata.name.unwrap_or_default();
                    let endpoint = replica.status.and_then(|status| status.endpoint);
                    let endpoint = endpoint.with_context(|| format!("{name} has no endpoint"))?;
                    let url = format!("http://{}/v2/models/{}/ready", endpoint.http, endpoint.model);
                    let asked = rest.get(&url).timeout(Duration::from_secs(2)).send().await;
                    let answer = asked.with_context(|| format!("ask {url}"))?;
                    ensure!(answer.status().is_success(), "{url} says {}", answer.status());
                    answered += 1;
                }
                ensure!(answered == wanted, "{answered} replicas answer");
                Ok(())
            },
        )
        .await
        .with_context(|| world.picture())
}

/// Waits until a node that was started anew has its agent again.
pub(super) async fn booted(world: &World, node: &str) -> Result<()> {
    let object = format!("node/{node}");
    world.kubectl(&["wait", "--for=condition=Ready", "--timeout=120s", &object])?;
    world
        .until(&format!("the agent of {node} runs"), FIRST_START, async || {
            Program::Agent.surely_on(world.provider.as_ref(), node).map(drop)
        })
        .await?;
    rolled_out(world)
}

/// Has operators and schedulers run elsewhere than on these nodes, which are about to fail: how long Kubernetes itself sends
/// connections to a dead node's pods is not what the story is about.
pub(super) fn shelter(world: &World, nodes: &[&str]) -> Result<()> {
    for node in nodes {
        world.kubectl(&["cordon", node])?;
    }
    let moved = empty(world, nodes);
    for node in nodes {
        world.kubectl(&["uncordon", node])?;
    }
    moved
}

fn empty(world: &World, nodes: &[&str]) -> Result<()> {
    let of = "app.kubernetes.io/component in (operator, scheduler)";
    let pods = world.kubectl(&["get", "pods", "-n", SYSTEM, "-l", of, "-o", "json"])?;
    let pods: Value = serde_json::from_str(&pods).context("read the list of pods")?;
    for pod in pods["items"].as_array().into_iter().flatten() {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let name = pod["metadata"]["name"].as_str().context("a pod has no name")?;
        if nodes.contains(&node) {
            world.kubectl(&["delete", "pod", "-n", SYSTEM, name, "--timeout=120s"])?;
            rolled_out(world)?;
        }
    }
    Ok(())
}

/// Waits until every Deployment and DaemonSet of the release is as it should be.
pub(super) fn rolled_out(world: &World) -> Result<()> {
    let found = world.kubectl(&["get", "deployments,daemonsets", "-n", SYSTEM, "-o", "name"])?;
    for workload in found.lines() {
        world.kubectl(&["rollout", "status", "-n", SYSTEM, workload, "--timeout=180s"])?;
    }
    Ok(())
}

/// How often containers of ours were started again, all together.
pub(super) fn restarts(world: &World) -> Result<u64> {
    let pods = world.kubectl(&["get", "pods", "-n", SYSTEM, "-o", "json"])?;
    let pods: Value = serde_json::from_str(&pods).context("read the list of pods")?;
    let containers = pods["items"].as_array().into_iter().flatten().flat_map(|pod| {
        pod["status"]["containerStatuses"]
            .as_array()
            .into_iter()
            .flatten()
    });
    Ok(containers
        .filter_map(|container| container["restartCount"].as_u64())
        .sum())
}

/// Fails if a single answer was not the standalone server's.
pub(super) fn nothing_wrong(entries: &[crate::load::Entry]) -> Result<()> {
    let share = judge::share(entries);
    ensure!(
        share.wrong == 0,
        "{} of {} answers were wrong:{}",
        share.wrong,
        share.all,
        judge::shown(entries, 10)
    );
    Ok(())
}
