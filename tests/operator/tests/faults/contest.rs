//! OP11: somebody else writes what the operator writes.

use std::time::Duration;

use afterglow_crds::condition::{self, DEGRADED};
use afterglow_operator_tests::oracles;
use afterglow_operator_tests::proxy::Verb;
use afterglow_operator_tests::snapshot::Snapshot;
use afterglow_operator_tests::wait::{until, verdict};
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::scene::{Scene, seconds};

const IMAGE: &str = "agent:1";

/// By force, again and again.
#[tokio::test]
async fn a_field_of_ours_that_somebody_takes_is_put_back_once_for_each_time_and_people_are_told() -> Result<()>
{
    let scene = Scene::new("op11", 1).await?;
    let agents = Agents::of(&scene).await?;
    let before = (agents.wish().await?, bystanders(&scene).await?);
    let mark = scene.proxy.record().mark();
    let thefts = 5;
    for turn in 0..thefts {
        agents.take(turn).await?;
        until("op11: it is put back", seconds(10), async || {
            let image = agents.image().await?;
            Ok(verdict(image == IMAGE, || image))
        })
        .await?;
        // From the third time on it is no slip.
        let is_told = conflict(&scene).await?.is_some();
        ensure!(turn >= 2 || !is_told, "a condition after {} thefts", turn + 1);
    }
    oracles::quiet(&scene.world, &scene.proxy, seconds(2)).await?;
    let writes = scene.done(mark, Verb::Apply, "daemonsets").len();
    ensure!(writes == thefts, "{writes} writes for {thefts} thefts");
    let set = agents.sets.get(&agents.name).await?;
    ensure!(set.annotations().contains_key("afterglow.dev/applied"));
    ensure!(agents.wish().await? == before.0, "other agents are wished for");
    let difference = bystanders(&scene).await?.difference(&before.1);
    ensure!(difference.is_none(), "nobody touched it: {difference:?}");

    let message = conflict(&scene).await?.context("no condition says so")?;
    let names_both = message.contains("somebody") && message.contains(&agents.name);
    ensure!(names_both, "{message}");
    let events: Api<Event> = Api::namespaced(scene.world.admin.clone(), "default");
    let events = events.list(&ListParams::default()).await?;
    let about = |event: &Event| {
        let regarding = event.regarding.as_ref();
        regarding.and_then(|object| object.name.as_deref()) == Some(scene.world.name.as_str())
    };
    let count = |reason: &str| {
        let told = events
            .iter()
            .filter(|event| about(event) && event.reason.as_deref() == Some(reason));
        told.count()
    };
    ensure!(
        (count("PutBack"), count("Conflict")) == (2, 1),
        "{} times put back, {} times a conflict",
        count("PutBack"),
        count("Conflict")
    );
    scene.end().await
}

/// As two programs do that both want to be right.
#[tokio::test]
async fn who_takes_a_field_at_fifty_hertz_is_put_back_ever_more_slowly() -> Result<()> {
    let scene = Scene::new("op11c", 1).await?;
    let agents = Agents::of(&scene).await?;
    let mark = scene.proxy.record().mark();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let begin = std::time::Instant::now();
    let mut thefts = 0;
    while begin.elapsed() < seconds(10) {
        tick.tick().await;
        agents.take(thefts).await?;
        thefts += 1;
    }
    let writes = scene.done(mark, Verb::Apply, "daemonsets").len();
    // At once, at once, at once, and 1, 2 and 4 s after; one more if the machine was slow to see the first.
    ensure!((4..=7).contains(&writes), "{writes} writes for {thefts} thefts");
    ensure!(conflict(&scene).await?.is_some(), "no condition says so");
    until("op11c: it is put back", seconds(30), async || {
        let image = agents.image().await?;
        Ok(verdict(image == IMAGE, || image))
    })
    .await?;
    scene.end().await
}

/// The DaemonSet of a world's agents, as somebody else sees it.
struct Agents {
    sets: Api<DaemonSet>,
    name: String,
    container: String,
}

impl Agents {
    async fn of(scene: &Scene) -> Result<Self> {
        let sets: Api<DaemonSet> = Api::namespaced(scene.world.admin.clone(), &scene.world.system);
        let name = format!("afterglow-agent-{}", scene.world.name);
        let set = sets.get(&name).await?;
        let pod = set.spec.and_then(|spec| spec.template.spec).context("no pod")?;
        let container = pod.containers[0].name.clone();
        Ok(Self {
            sets,
            name,
            container,
        })
    }

    /// Writes another image into it, by force.
    async fn take(&self, turn: usize) -> Result<()> {
        let image = format!("somebody/else:{turn}");
        let patch = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "spec": { "template": { "spec": {
            "containers": [{ "name": self.container, "image": image }],
        }}}});
        let params = PatchParams::apply("somebody").force();
        self.sets
            .patch(&self.name, &params, &Patch::Apply(&patch))
            .await?;
        Ok(())
    }

    async fn wish(&self) -> Result<DaemonSetSpec> {
        self.sets.get(&self.name).await?.spec.context("no spec")
    }

    async fn image(&self) -> Result<String> {
        let pod = self.wish().await?.template.spec.context("no pod")?;
        pod.containers[0].image.clone().context("no image")
    }
}

/// All that is not taken, nor tells of it.
async fn bystanders(scene: &Scene) -> Result<Snapshot> {
    let all = Snapshot::of(&scene.world).await?;
    Ok(all.without(&["DaemonSet", "InferenceCluster"]))
}

/// What the cluster says of the conflict.
async fn conflict(scene: &Scene) -> Result<Option<String>> {
    let cluster = scene.world.clusters().get(&scene.world.name).await?;
    let conditions = cluster.status.map(|status| status.conditions).unwrap_or_default();
    let degraded = condition::find(&conditions, DEGRADED).filter(|degraded| degraded.status == "True");
    Ok(degraded
        .filter(|degraded| degraded.reason == "Conflict")
        .map(|degraded| degraded.message.clone()))
}
