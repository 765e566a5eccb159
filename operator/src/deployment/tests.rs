//! What one turn decides and says.

mod moving;

use std::sync::Arc;
use std::time::Duration;

use afterglow_crds::condition::{self, DEGRADED, PROGRESSING, READY};
use afterglow_crds::{ModelDeployment, ModelReplica, labels};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::check::check;
use super::fixtures::{GI, UID, done, facts, gpu_node, object, ready, replica, saying, settled, turn, with};
use super::gather::{Facts, Machine, Rival};
use super::plan::{Plan, Wanted};
use super::report::status;
use crate::liveness::Judgement;

fn places(plan: &Plan<Wanted>) -> Vec<String> {
    plan.create
        .iter()
        .map(|replica| format!("{}/{}", replica.spec.node_name, replica.spec.device))
        .collect()
}

/// `status reason: message` of a condition.
fn said(facts: &Facts, type_: &str) -> String {
    let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
    let (status, _) = status(facts, &done(turn(facts)), Duration::ZERO, now);
    let condition = condition::find(&status.conditions, type_).expect("the condition is always there");
    format!("{} {}: {}", condition.status, condition.reason, condition.message)
}

#[test]
fn a_new_replica_carries_all_that_its_agent_and_its_cleaning_need() {
    let facts = facts(json!({}), vec![gpu_node("a", &[8 * GI])]);
    let plan = turn(&facts);
    let replica = &plan.create[0];
    assert_eq!(
        replica.name_any(),
        format!("bert-1-{}", crate::deployment::short_hash(b"a/gpu-0", 5))
    );
    assert_eq!(replica.namespace().as_deref(), Some("team"));
    assert_eq!(replica.finalizers(), [labels::REPLICA_FINALIZER]);
    assert_eq!(replica.owner_references()[0].uid, UID);
    assert_eq!(replica.owner_references()[0].controller, Some(true));
    let wanted = [
        (labels::CLUSTER, "default"),
        (labels::DEPLOYMENT, "bert"),
        (labels::NODE, "a"),
        (labels::REVISION, "1"),
        (labels::TEMPLATE_HASH, plan.revision.hash.as_str()),
    ];
    for (key, value) in wanted {
        assert_eq!(
            replica.labels().get(key).map(String::as_str),
            Some(value),
            "{key}"
        );
    }
    assert_eq!(
        replica.spec.model.name.as_deref(),
        Some("bert"),
        "the name is filled in"
    );
    assert_eq!(
        replica.spec.memory.0, "512Mi",
        "assumed where nobody has said or measured anything"
    );
}

#[test]
fn replicas_go_to_devices_of_their_own() {
    let facts = facts(json!({ "replicas": 3 }), vec![gpu_node("a", &[8 * GI, 8 * GI])]);
    let plan = turn(&facts);
    let mut found = places(&plan);
    found.sort();
    assert_eq!(found, ["a/gpu-0", "a/gpu-1"]);
    assert!(plan.unplaced.is_some(), "the third finds no device");
    assert!(
        said(&facts, READY)
            .starts_with("False NoDeviceFits: 0 of 3 replicas of revision 1 serve. 0 of 2 devices fit")
    );
}

#[test]
fn memory_is_what_was_measured_where_that_is_more_than_what_was_asked() {
    let mut measured = ready(replica("other-1-x", 1, "b", "gpu-0"));
    if let Some(status) = &mut measured.status {
        status.profile = Some(object(json!({
            "memory": "3Gi", "loadMilliseconds": 1, "deviceNodes": 1, "cpuNodes": 0,
        })));
    }
    let spec = json!({ "requirements": { "memory": "2Gi" } });
    let mut facts = facts(spec, vec![gpu_node("a", &[4 * GI])]);
    assert_eq!(turn(&facts).create[0].spec.memory.0, "2Gi");
    facts.all.push(measured);
    assert_eq!(turn(&facts).create[0].spec.memory.0, "3Gi");
}

#[test]
fn fewer_than_wished_is_degraded_and_none_at_all_is_not_ready() {
    let nodes = || vec![gpu_node("a", &[8 * GI])];
    let some = with(
        facts(json!({ "replicas": 2 }), nodes()),
        vec![ready(replica("bert-1-x", 1, "a", "gpu-0"))],
    );
    let some = settled(some, 1);
    assert!(
        said(&some, READY).starts_with("False NoDeviceFits: 1 of 2"),
        "{}",
        said(&some, READY)
    );
    assert!(
        said(&some, DEGRADED).starts_with("True NoDeviceFits"),
        "{}",
        said(&some, DEGRADED)
    );
    let none = facts(json!({ "requirements": { "memory": "10Gi" } }), nodes());
    assert!(
        said(&none, DEGRADED).starts_with("False AsWished"),
        "{}",
        said(&none, DEGRADED)
    );
}

#[test]
fn a_wish_for_too_much_memory_is_told_in_its_own_words() {
    let spec = json!({ "requirements": { "memory": "10Ti" } });
    let facts = facts(spec, vec![gpu_node("a", &[8 * GI])]);
    let words = said(&facts, READY);
    assert!(words.contains("too little free memory"), "{words}");
    assert!(words.contains("spec.requirements.memory is 10Ti."), "{words}");
}

#[test]
fn memory_of_a_replica_that_is_being_deleted_is_not_given_away() {
    let mut leaving = ready(replica("other-1-x", 1, "a", "gpu-0"));
    leaving.spec.memory.0 = "7Gi".to_owned();
    leaving.metadata.deletion_timestamp = leaving.metadata.creation_timestamp.clone();
    let mut facts = facts(
        json!({ "requirements": { "memory": "2Gi" } }),
        vec![gpu_node("a", &[8 * GI])],
    );
    facts.all.push(leaving);
    assert_eq!(places(&turn(&facts)), [""; 0]);
    facts.all.clear();
    assert_eq!(places(&turn(&facts)), ["a/gpu-0"]);
}

#[test]
fn nothing_is_placed_where_it_would_not_be_served() {
    let node = gpu_node("a", &[8 * GI]);
    let base = || facts(json!({}), vec![node.clone()]);
    let mut silent = base();
    silent.judgement = Arc::default();
    assert!(
        said(&silent, READY).contains("whose agent is silent"),
        "{}",
        said(&silent, READY)
    );
    let mut cordoned = base();
    cordoned.nodes.insert(
        "a".to_owned(),
        Machine {
            unschedulable: true,
            ..Machine::default()
        },
    );
    assert!(
        said(&cordoned, READY).contains("cordoned"),
        "{}",
        said(&cordoned, READY)
    );
    let mut gone = base();
    gone.nodes.clear();
    assert!(
        said(&gone, READY).contains("being deleted"),
        "{}",
        said(&gone, READY)
    );
    let mut lent = base();
    lent.gpu_nodes[0].spec.lend = vec!["gpu-0".to_owned()];
    assert!(
        said(&lent, READY).contains("lent to other pods"),
        "{}",
        said(&lent, READY)
    );
    for facts in [silent, cordoned, gone, lent] {
        assert_eq!(places(&turn(&facts)), [""; 0]);
    }
}

#[test]
fn a_source_that_fails_is_not_tried_on_other_devices() {
    let failed = saying(
        replica("bert-1-x", 1, "a", "gpu-0"),
        "False",
        "DigestMismatch",
        "It is another file.",
    );
    let mut facts = with(
        facts(
            json!({}),
            vec![gpu_node("a", &[8 * GI]), gpu_node("b", &[8 * GI])],
        ),
        vec![failed],
    );
    facts.deployment.status = Some(object(
        json!({ "revision": 1, "templateHash": turn(&facts).revision.hash }),
    ));
    let plan = turn(&facts);
    assert_eq!((places(&plan).len(), plan.delete.len()), (0, 0), "{plan:?}");
    assert_eq!(
        said(&facts, READY),
        "False ReplicaFailed: 0 of 1 replicas of revision 1 serve. Replica bert-1-x on a/gpu-0: DigestMismatch: It is another file."
    );
    assert!(said(&facts, DEGRADED).starts_with("True ReplicaFailed"));
}

/// The template's hash is on record, so that the replicas' revision is the newest.
#[test]
fn an_old_replica_that_may_serve_again_stays_while_the_newest_is_stuck() {
    let stuck = |reason| {
        let old = saying(replica("bert-1-x", 1, "a", "gpu-0"), "False", reason, "");
        let new = saying(
            replica("bert-2-y", 2, "b", "gpu-0"),
            "False",
            "DigestMismatch",
            "It is another file.",
        );
        let nodes = vec![gpu_node("a", &[8 * GI]), gpu_node("b", &[8 * GI])];
        let facts = settled(with(facts(json!({}), nodes), vec![old, new]), 2);
        turn(&facts)
            .delete
            .iter()
            .map(ResourceExt::name_any)
            .collect::<Vec<_>>()
    };
    for reason in ["Loading", "EngineFailed", "DeviceUnhealthy", "DeviceUnknown"] {
        assert_eq!(stuck(reason), [""; 0], "{reason} passes");
    }
    for reason in ["DigestMismatch", "OutOfMemory", "ProbeFailed"] {
        assert_eq!(stuck(reason), ["bert-1-x"], "{reason} stays");
    }
}

#[test]
fn a_device_that_nobody_offers_yet_is_no_reason_to_worry_while_agents_start() {
    let mut facts = facts(json!({}), vec![]);
    let cluster = |progressing: &str, reason: &str| {
        object(json!({
            "metadata": { "name": "default", "creationTimestamp": "2026-01-01T00:00:30Z" },
            "spec": {},
            "status": { "conditions": [{
                "type": "Progressing", "status": progressing, "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:30Z",
            }] },
        }))
    };
    facts.cluster = Some(cluster("True", "AgentsStarting"));
    let words = said(&facts, READY);
    assert!(words.starts_with("False Progressing: 0 of 1"), "{words}");
    assert!(
        words.ends_with("Agents of InferenceCluster default are being started."),
        "{words}"
    );
    assert!(said(&facts, DEGRADED).starts_with("False AsWished"));
    let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
    let after = |facts: &Facts, waited: u64| {
        let waited = Duration::from_secs(waited);
        let (status, again) = status(facts, &done(turn(facts)), waited, now);
        let ready = condition::find(&status.conditions, READY).expect("it is there");
        (ready.reason.clone(), again.map(|again| again.as_secs()))
    };
    assert_eq!(
        after(&facts, 30),
        ("Progressing".to_owned(), Some(570)),
        "it looks again when the agents have had their time"
    );
    assert_eq!(after(&facts, 600), ("NoDeviceFits".to_owned(), None));
    if let Some(cluster) = &mut facts.cluster {
        cluster.status = None;
    }
    assert_eq!(after(&facts, 30).0, "Progressing", "nobody has looked yet");
    for (status, reason) in [("False", "Complete"), ("True", "SchedulersStarting")] {
        facts.cluster = Some(cluster(status, reason));
        assert_eq!(after(&facts, 30).0, "NoDeviceFits", "{reason}");
    }
}

#[test]
fn what_may_not_be_served_says_why_and_what_to_do() {
    let serving = ready(replica("bert-1-x", 1, "a", "gpu-0"));
    let base = |uri: &str| {
        let model = json!({ "model": { "source": { "uri": uri, "digest": "sha256:0" } } });
        with(
            facts(model, vec![gpu_node("a", &[8 * GI])]),
            vec![serving.clone()],
        )
    };
    let mut no_cluster = base("https://x/m");
    no_cluster.cluster = None;
    let mut closed = base("https://x/m");
    if let Some(cluster) = &mut closed.cluster {
        cluster.spec.namespace_selector = Some(object(json!({ "matchLabels": { "gpus": "yes" } })));
    }
    let mut late = base("https://x/m");
    late.rivals = vec![Rival {
        name: "older".to_owned(),
        created: Some(object(json!("2025-12-31T00:00:00Z"))),
        uid: Some("0".to_owned()),
    }];
    for (facts, reason, removed) in [
        (
            no_cluster,
            "ClusterNotFound: There is no InferenceCluster default",
            1,
        ),
        (closed.clone(), "NamespaceNotAllowed: ", 1),
        (late, "NameTaken: ModelDeployment team/older already serves", 1),
        (
            base("file:///models/m.onnx"),
            "SourceNotConfigured: file:// sources need spec.agent.modelPath",
            0,
        ),
        (base("pvc://shared/m.onnx"), "SourceNotConfigured: ", 0),
        (base("s3://bucket/m.onnx"), "SourceNotConfigured: ", 0),
        (base("ftp://x/m.onnx"), "SourceNotConfigured: ", 0),
    ] {
        let words = said(&facts, READY);
        assert!(words.starts_with(&format!("False {reason}")), "{words}");
        let plan = turn(&facts);
        assert_eq!(
            (plan.create.len(), plan.delete.len()),
            (0, removed),
            "{reason}: {plan:?}"
        );
    }
    closed
        .namespace_labels
        .insert("gpus".to_owned(), "yes".to_owned());
    assert_eq!(check(&closed), Ok(()));
}

#[test]
fn files_must_lie_below_the_folder_that_is_open_to_them() {
    for (uri, allowed) in [
        ("file:///models/a/m.onnx", true),
        ("file:///models/../etc/passwd", false),
        ("file:///models-of-others/m.onnx", false),
        ("file:///models", false),
    ] {
        let model = json!({ "model": { "source": { "uri": uri, "digest": "sha256:0" } } });
        let mut facts = facts(model, vec![]);
        if let Some(cluster) = &mut facts.cluster {
            cluster.spec.agent.model_path = Some("/models/".to_owned());
        }
        assert_eq!(check(&facts).is_ok(), allowed, "{uri}");
    }
}

#[test]
fn the_older_of_two_with_one_name_keeps_it() {
    let mut facts = facts(json!({}), vec![]);
    facts.rivals = vec![Rival {
        name: "younger".to_owned(),
        created: Some(object(json!("2026-02-01T00:00:00Z"))),
        uid: Some("0".to_owned()),
    }];
    assert_eq!(check(&facts), Ok(()));
}

#[test]
fn a_suspended_deployment_frees_its_devices() {
    let serving = ready(replica("bert-1-x", 1, "a", "gpu-0"));
    let facts = settled(
        with(
            facts(json!({ "suspend": true }), vec![gpu_node("a", &[8 * GI])]),
            vec![serving],
        ),
        1,
    );
    assert_eq!(turn(&facts).delete.len(), 1);
    assert!(said(&facts, READY).starts_with("False Suspended"));
    assert!(said(&facts, DEGRADED).starts_with("False AsWished"));
}

#[test]
fn a_revision_is_new_when_the_template_is_and_never_used_twice() {
    let deployment = |status: Value, name: &str| -> ModelDeployment {
        object(json!({
            "metadata": { "name": name },
            "spec": { "model": { "source": { "uri": "https://x/m.onnx", "digest": "sha256:0" } } },
            "status": status,
        }))
    };
    let current = super::revision::current;
    let first = current(&deployment(Value::Null, "bert"), &[]);
    assert_eq!(first.number, 1);
    let on_record = json!({ "revision": 7, "templateHash": first.hash });
    assert_eq!(
        current(&deployment(on_record.clone(), "bert"), &[]).number,
        7,
        "unchanged"
    );
    assert_eq!(
        current(&deployment(on_record.clone(), "other"), &[]).number,
        8,
        "its name is a part of the template"
    );

    // A crash between the replicas and the status.
    let mut newer = replica("bert-8-x", 8, "a", "gpu-0");
    newer
        .labels_mut()
        .insert(labels::TEMPLATE_HASH.to_owned(), first.hash.clone());
    assert_eq!(
        current(
            &deployment(json!({ "revision": 7, "templateHash": "x" }), "bert"),
            &[newer]
        )
        .number,
        8
    );
    // Back to an old template: a number that was used stays used.
    let mut older = replica("bert-3-x", 3, "a", "gpu-0");
    older
        .labels_mut()
        .insert(labels::TEMPLATE_HASH.to_owned(), first.hash.clone());
    let record = json!({ "revision": 7, "templateHash": "x" });
    assert_eq!(current(&deployment(record, "bert"), &[older]).number, 8);
}

#[test]
fn a_second_report_of_the_same_facts_is_the_same() {
    let mut facts = settled(
        with(
            facts(
                json!({ "replicas": 2 }),
                vec![gpu_node("a", &[8 * GI]), gpu_node("b", &[8 * GI])],
            ),
            vec![
                ready(replica("bert-1-x", 1, "a", "gpu-0")),
                saying(replica("bert-1-y", 1, "b", "gpu-0"), "False", "Loading", ""),
            ],
        ),
        1,
    );
    let after = |facts: &Facts, waited: u64, year: i16| {
        let now = format!("{year}-01-01T00:01:00Z").parse().expect("a time");
        status(facts, &done(turn(facts)), Duration::from_secs(waited), now)
    };
    let (first, again) = after(&facts, 10, 2026);
    assert_eq!(again.map(|again| again.as_secs()), Some(590));
    facts.deployment.status = Some(first.clone());
    for year in [1970, 2026, 2099] {
        let (second, _) = after(&facts, 20, year);
        assert_eq!(second, first, "though it is {year}");
    }
    assert_eq!(
        (first.replicas, first.updated_replicas, first.ready_replicas),
        (2, 2, 1)
    );
    assert_eq!(
        first.url.as_deref(),
        Some("http://afterglow-default.team.svc:8000")
    );
    assert_eq!(first.selector, "afterglow.dev/deployment=bert");
    let (late, again) = after(&facts, 600, 2026);
    assert_eq!(again, None);
    for (type_, wanted) in [(DEGRADED, "True"), (PROGRESSING, "False")] {
        let condition = condition::find(&late.conditions, type_).expect("it is there");
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_str()),
            (wanted, "ProgressDeadlineExceeded")
        );
    }
}

#[test]
fn of_two_that_were_promised_the_same_memory_the_later_is_placed_again_and_then_goes() {
    let promised = |name: &str, node: &str, created: &str| {
        let mut replica = ready(replica(name, 1, node, "gpu-0"));
        replica.spec.memory.0 = "5Gi".to_owned();
        replica.metadata.creation_timestamp = Some(object(json!(created)));
        replica
    };
    let mut other = promised("other-1-x", "a", "2026-01-01T00:00:00Z");
    other.metadata.owner_references = None;
    let own = promised("bert-1-x", "a", "2026-01-01T00:00:01Z");
    let nodes = vec![gpu_node("a", &[8 * GI]), gpu_node("b", &[8 * GI])];
    let wishing = |own: &[&ModelReplica], others: &[&ModelReplica]| {
        let mut facts = facts(json!({ "requirements": { "memory": "5Gi" } }), nodes.clone());
        facts = with(facts, own.iter().copied().cloned().collect());
        facts.all.extend(others.iter().copied().cloned());
        turn(&settled(facts, 1))
    };

    let plan = wishing(&[&own], &[&other]);
    assert_eq!(
        (places(&plan), plan.delete.len()),
        (vec!["b/gpu-0".to_owned()], 0)
    );
    let again = promised("bert-1-y", "b", "2026-01-01T00:00:02Z");
    let plan = wishing(&[&own, &again], &[&other]);
    assert_eq!(plan.create.len(), 0);
    assert_eq!(plan.delete[0].name_any(), "bert-1-x");

    other.metadata.creation_timestamp = Some(object(json!("2026-01-01T00:00:02Z")));
    let plan = wishing(&[&own], &[&other]);
    assert_eq!(
        (plan.create.len(), plan.delete.len()),
        (0, 0),
        "who came first stays"
    );
}
