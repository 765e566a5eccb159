//! Whole turns, against an API server that answers as it likes.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use serde_json::json;

use super::fixtures::{GI, facts, gpu_node, object, ready, replica, with};
use super::gather::Facts;
use super::{gather, reconcile};
use crate::cluster::claim::OPERATED_FROM;
use crate::stub::{Answer, Stub, asked, refusal};

/// Three devices, and so many replicas wanted.
fn wanting(replicas: u32) -> Facts {
    let nodes = ["a", "b", "c"].map(|name| gpu_node(name, &[8 * GI]));
    facts(json!({ "replicas": replicas }), nodes.into())
}

/// Takes every status, makes no replica.
fn takes_status(facts: &Facts) -> impl Fn(&str) -> Answer + Send + 'static + use<> {
    let deployment = serde_json::to_value(&facts.deployment).expect("JSON");
    move |call| {
        if call.ends_with("/status") {
            Some((200, deployment.clone()))
        } else {
            refusal(404)
        }
    }
}

#[tokio::test]
async fn a_cluster_that_cannot_be_read_is_not_gone() {
    let facts = with(wanting(1), vec![ready(replica("bert-1-x", 1, "a", "gpu-0"))]);
    let broken: DeserializeGuard<_> = object(json!({
        "metadata": { "name": "default", "annotations": { OPERATED_FROM: "afterglow-system" } },
        "spec": { "agent": "of another time" },
    }));
    let stub = Stub::with_cluster(&facts, Some(broken), takes_status(&facts));
    let known = gather::gather(&stub.context, &facts.deployment);
    assert!(known.cluster.is_none() && known.unreadable.cluster.is_some());
    reconcile(asked(&facts), stub.context.clone())
        .await
        .expect("nothing is wrong");
    assert_eq!(stub.calls("modelreplicas"), [""; 0], "what serves goes on");
    assert_eq!(stub.calls("/status").len(), 1, "and the status says so");

    let gone = Stub::with_cluster(&facts, None, takes_status(&facts));
    reconcile(asked(&facts), gone.context.clone())
        .await
        .expect("nothing is wrong");
    assert_eq!(
        gone.calls("DELETE").len(),
        1,
        "a cluster that is gone takes them along"
    );
}

#[tokio::test]
async fn a_deployment_of_another_operators_cluster_is_not_touched() {
    let facts = with(wanting(3), vec![ready(replica("bert-1-x", 1, "lost", "gpu-0"))]);
    for (claimed, works) in [("afterglow-system", true), ("elsewhere", false)] {
        let mut cluster = facts.cluster.clone().expect("the fixture has one");
        let annotations = [(OPERATED_FROM.to_owned(), claimed.to_owned())];
        cluster.metadata.annotations = Some(annotations.into());
        let stub = Stub::with_cluster(&facts, Some(DeserializeGuard(Ok(cluster))), takes_status(&facts));
        let _ = reconcile(asked(&facts), stub.context.clone()).await;
        assert_eq!(
            !stub.calls("").is_empty(),
            works,
            "{claimed}: {:?}",
            stub.calls("")
        );
    }
}

#[tokio::test]
async fn a_deployment_waits_until_its_cluster_is_claimed() {
    let facts = wanting(1);
    let cluster = facts.cluster.clone().map(Ok).map(DeserializeGuard);
    let stub = Stub::with_cluster(&facts, cluster, takes_status(&facts));
    let action = reconcile(asked(&facts), stub.context.clone()).await;
    assert_eq!(action.expect("nothing is wrong"), Action::await_change());
    assert_eq!(stub.calls(""), [""; 0]);
}

#[tokio::test]
async fn an_api_server_in_trouble_is_asked_once_and_nothing_that_was_not_asked_for_is_awaited() {
    for code in [429, 503] {
        let facts = wanting(3);
        let stub = Stub::knowing(&facts, move |_| refusal(code));
        reconcile(asked(&facts), stub.context.clone())
            .await
            .expect_err("it is in trouble");
        assert_eq!(
            stub.calls("POST /apis/afterglow.dev").len(),
            1,
            "{:?}",
            stub.calls("")
        );
        assert!(
            stub.context.expectations.gives_up("default").is_none(),
            "none was made"
        );
    }
    let facts = wanting(3);
    let stub = Stub::knowing(&facts, |_| refusal(403));
    reconcile(asked(&facts), stub.context.clone())
        .await
        .expect_err("it is refused");
    assert_eq!(
        stub.calls("POST /apis/afterglow.dev").len(),
        3,
        "a refusal says nothing of the others"
    );
}

#[tokio::test]
async fn a_replica_that_may_have_been_made_is_looked_for_again_when_it_is_given_up() {
    let facts = wanting(1);
    let takes_status = takes_status(&facts);
    let stub = Stub::knowing(&facts, move |call| {
        if call.starts_with("POST /apis/afterglow.dev") {
            None
        } else {
            takes_status(call)
        }
    });
    reconcile(asked(&facts), stub.context.clone())
        .await
        .expect_err("there was no answer");
    assert!(
        stub.context.expectations.gives_up("default").is_some(),
        "it may be there"
    );
    let again = reconcile(asked(&facts), stub.context.clone()).await;
    assert_eq!(
        stub.calls("POST /apis/afterglow.dev").len(),
        1,
        "it is not made twice"
    );
    assert_ne!(
        again.expect("nothing is wrong"),
        Action::requeue(super::RESYNC),
        "and not looked for in five minutes"
    );
    let next = super::next_look(&stub.context, &facts.deployment, None);
    let seconds = 30.0..=40.1;
    assert!(
        seconds.contains(&next.as_secs_f64()),
        "but when it is given up: in {next:?}"
    );
}

#[test]
fn a_node_and_a_replica_that_cannot_be_read_are_there_nevertheless() {
    let mut facts = with(wanting(1), vec![ready(replica("bert-1-x", 1, "a", "gpu-0"))]);
    facts.gpu_nodes.remove(0);
    facts.unreadable.nodes.insert("a".to_owned());
    assert!(!super::fleet::is_lost(&facts, &facts.own[0]));
    facts.unreadable.nodes.clear();
    assert!(super::fleet::is_lost(&facts, &facts.own[0]));

    facts.own.clear();
    facts.all.clear();
    facts
        .unreadable
        .own
        .insert("bert-1-x".to_owned(), "it is of another time".to_owned());
    let plan = super::fixtures::turn(&facts);
    assert_eq!((plan.create.len(), plan.delete.len()), (0, 0));
    let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
    let (status, _) = super::report::status(&facts, &super::fixtures::done(plan), Duration::ZERO, now);
    assert_eq!(status.conditions[0].reason, "ReplicaUnreadable");
}
