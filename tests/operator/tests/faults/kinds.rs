//! OP14: a kind goes, with all objects that are of it.

use std::time::Instant;

use afterglow_crds::ModelReplica;
use afterglow_operator_tests::server::Server;
use afterglow_operator_tests::wait::{until, verdict};
use afterglow_operator_tests::world::MODEL;
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{CustomResourceExt as _, ResourceExt as _};

use crate::scene::{Scene, at_most_once_a_second, seconds};

/// As when somebody deletes all kinds of a release and installs the next one.
#[tokio::test]
async fn a_kind_that_is_deleted_and_made_anew_ends_nothing_and_its_replicas_are_made_again() -> Result<()> {
    let server = Server::start("op14e")?;
    let mut scene = Scene::among(&server, "op14e", 3, 2).await?;
    let world = &scene.world;
    let kinds: Api<CustomResourceDefinition> = Api::all(world.admin.clone());
    let kind = ModelReplica::crd();
    let name = kind.name_any();
    let (mark, start) = (scene.proxy.record().mark(), Instant::now());
    kinds
        .delete(&name, &DeleteParams::default())
        .await
        .context("delete the kind of the replicas")?;
    until("op14e: the kind is gone", seconds(60), async || {
        let kind = kinds.get_opt(&name).await?;
        Ok(verdict(kind.is_none(), || {
            format!("{:?}", kind.and_then(|kind| kind.status))
        }))
    })
    .await?;
    let wants = || {
        let mut writes = scene.proxy.record().work_since(mark);
        writes.retain(|entry| entry.call.is_of("modelreplicas") && entry.said == Some(404));
        writes.len()
    };
    scene
        .until("the operator has missed the kind twice", seconds(30), || {
            wants() >= 2
        })
        .await?;
    let words = world.words(MODEL).await?;
    scene.operator.is_well()?;
    at_most_once_a_second(&scene.proxy.record().work_since(mark), start.elapsed().as_secs())?;
    ensure!(words.0 != "Ready", "nothing serves, and it says {words:?}");

    kinds
        .create(&PostParams::default(), &kind)
        .await
        .context("make the kind of the replicas anew")?;
    world.serves_within(MODEL, 2, seconds(60)).await?;
    scene.end().await
}
