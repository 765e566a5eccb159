//! Fixtures, and what one turn decides and says.

mod contested;
mod leaving;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use afterglow_crds::InferenceCluster;
use afterglow_crds::condition::{self, DEGRADED, READY};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use serde_json::{Value, json};

use super::build::Kind;
use super::check::check;
use super::difference::stamped;
use super::gather::Facts;
use super::plan::{Applied, Plan, Wanted, plan};
use super::report::{is_bad, status};
use crate::args::{Options, PullPolicy};
use crate::liveness::Judgement;
use crate::stub::{Stub, refusal};

const YAML: &str = "
metadata:
  name: default
  uid: u-1
  generation: 1
  finalizers: [afterglow.dev/operator]
  annotations: { afterglow.dev/operated-from: afterglow-system }
spec: { agent: { nodeSelector: { gpus: old } } }
";

pub(super) fn cluster(yaml: &str) -> InferenceCluster {
    let mut value: Value = serde_saphyr::from_str(yaml).expect("YAML");
    value["apiVersion"] = json!("afterglow.dev/v1alpha1");
    value["kind"] = json!("InferenceCluster");
    serde_json::from_value(value).expect("a cluster")
}

pub(super) fn options() -> Options {
    let options = crate::stub::options();
    assert_eq!(options.image_pull_policy, PullPolicy::IfNotPresent);
    options
}

fn facts(yaml: &str) -> Facts {
    Facts {
        cluster: cluster(yaml),
        has_siblings: false,
        tenants: vec!["default".to_owned()],
        children: HashMap::new(),
        kinds: Kind::ALL.into_iter().collect(),
        gpu_nodes: Vec::new(),
        nodes: BTreeMap::new(),
        replicas: Vec::new(),
        judgement: Arc::default(),
        contests: HashMap::new(),
        now: Instant::now(),
    }
}

/// As if the API server had stored all of it, with what it adds by itself.
fn stored(facts: &mut Facts, plan: &Plan<Wanted>) {
    for child in &plan.apply {
        let mut body = stamped(child);
        body["metadata"]["uid"] = json!(format!("{:?}", child.kind));
        body["metadata"]["resourceVersion"] = json!("7");
        body["metadata"]["generation"] = json!(1);
        if child.kind == Kind::DaemonSet {
            body["spec"]["revisionHistoryLimit"] = json!(10);
            let pod = &mut body["spec"]["template"]["spec"];
            pod["dnsPolicy"] = json!("ClusterFirst");
            pod["containers"][0]["livenessProbe"]["successThreshold"] = json!(1);
            pod["containers"][0]["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] = json!("v1");
            body["status"] = json!({
                "desiredNumberScheduled": 1, "currentNumberScheduled": 1, "numberMisscheduled": 0, "numberReady": 1,
                "updatedNumberScheduled": 1, "observedGeneration": 1,
            });
        }
        if child.kind == Kind::Deployment {
            body["status"] =
                json!({ "readyReplicas": 2, "updatedReplicas": 2, "replicas": 2, "observedGeneration": 1 });
        }
        // What the API drops because it is empty.
        if child.kind == Kind::Service {
            body["spec"]["sessionAffinity"] = json!("None");
        }
        if let Some(tmp) = body.pointer_mut("/spec/template/spec/volumes/0") {
            assert!(tmp["emptyDir"].is_object() || tmp["configMap"].is_object());
        }
        let object: DynamicObject = serde_json::from_value(body).expect("an object");
        let key = (child.kind, child.namespace.clone(), child.name.clone());
        facts.children.insert(key, Arc::new(object));
    }
}

fn names(plan: &Plan<Wanted>) -> (Vec<String>, Vec<String>) {
    (
        plan.apply.iter().map(super::build::Child::object).collect(),
        plan.delete
            .iter()
            .map(|(kind, object)| format!("{kind:?} {}", object.name_any()))
            .collect(),
    )
}

fn change(facts: &mut Facts, kind: Kind, with: impl Fn(&mut DynamicObject)) {
    for ((found, ..), object) in &mut facts.children {
        if *found == kind {
            with(Arc::make_mut(object));
        }
    }
}

#[test]
fn what_is_as_it_should_be_is_not_written_again() {
    let mut facts = facts(YAML);
    let first = plan(&facts, &options());
    assert_eq!(first.apply.len(), 14, "{:?}", names(&first).0);
    stored(&mut facts, &first);
    let second = plan(&facts, &options());
    assert_eq!(names(&second), (vec![], vec![]));
    assert!(!second.add_finalizer);
}

#[test]
fn what_somebody_changed_is_put_right_and_what_somebody_added_stays() {
    let mut facts = facts(YAML);
    let first = plan(&facts, &options());
    stored(&mut facts, &first);
    change(&mut facts, Kind::DaemonSet, |object| {
        object.data["spec"]["template"]["spec"]["containers"][0]["env"]
            .as_array_mut()
            .expect("env")
            .insert(0, json!({ "name": "THEIRS", "value": "1" }));
        object
            .annotations_mut()
            .insert("theirs".to_owned(), "1".to_owned());
    });
    assert_eq!(names(&plan(&facts, &options())).0, [""; 0]);
    change(&mut facts, Kind::DaemonSet, |object| {
        object.data["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil");
    });
    assert_eq!(
        names(&plan(&facts, &options())).0,
        ["DaemonSet afterglow-system/afterglow-agent-default"]
    );
}

#[test]
fn a_field_that_is_not_wanted_any_more_is_a_difference() {
    let mut facts = facts(YAML);
    let first = plan(&facts, &options());
    stored(&mut facts, &first);
    facts.cluster.spec.agent.node_selector.clear();
    assert_eq!(
        names(&plan(&facts, &options())).0,
        ["DaemonSet afterglow-system/afterglow-agent-default"],
        "the object still contains all that is wanted, and more that is not"
    );
}

#[test]
fn what_is_not_needed_any_more_is_deleted() {
    let mut facts = facts(YAML);
    let first = plan(&facts, &options());
    stored(&mut facts, &first);
    facts.tenants.clear();
    facts.cluster.spec.scheduler.replicas = 1;
    let (applied, deleted) = names(&plan(&facts, &options()));
    assert_eq!(
        applied,
        ["Deployment afterglow-system/afterglow-scheduler-default"]
    );
    assert_eq!(
        deleted,
        [
            "Service afterglow-default",
            "PodDisruptionBudget afterglow-scheduler-default"
        ]
    );
}

#[test]
fn bindings_to_roles_of_another_name_are_made_anew() {
    let mut facts = facts(YAML);
    let first = plan(&facts, &options());
    stored(&mut facts, &first);
    let renamed = Options {
        agent_role: "other-agent".to_owned(),
        ..options()
    };
    let going = plan(&facts, &renamed);
    assert_eq!(
        names(&going),
        (
            vec![],
            vec![
                "RoleBinding afterglow-agent-default".to_owned(),
                "ClusterRoleBinding afterglow-agent-default-afterglow-system".to_owned()
            ]
        ),
        "a binding cannot be changed"
    );
    facts.children.retain(|key, _| {
        !going
            .delete
            .iter()
            .any(|(kind, object)| (*kind, object.namespace(), object.name_any()) == *key)
    });
    let coming = plan(&facts, &renamed);
    assert_eq!(
        names(&coming),
        (
            vec![
                "RoleBinding afterglow-system/afterglow-agent-default".to_owned(),
                "ClusterRoleBinding afterglow-agent-default-afterglow-system".to_owned()
            ],
            vec![]
        )
    );
    stored(&mut facts, &coming);
    assert_eq!(names(&plan(&facts, &renamed)), (vec![], vec![]));
}

#[test]
fn a_cluster_is_claimed_before_anything_is_made_for_it() {
    let mut facts = facts(YAML);
    assert!(!plan(&facts, &options()).add_finalizer, "it is claimed already");
    facts.cluster.annotations_mut().clear();
    assert!(plan(&facts, &options()).add_finalizer);
    facts
        .cluster
        .annotations_mut()
        .insert(super::claim::OPERATED_FROM.to_owned(), "gone".to_owned());
    assert!(plan(&facts, &options()).add_finalizer, "it is taken over");
}

#[tokio::test]
async fn a_cluster_of_another_operator_is_told_of_once_and_left_alone() {
    let mut cluster = cluster(YAML);
    cluster
        .annotations_mut()
        .insert(super::claim::OPERATED_FROM.to_owned(), "elsewhere".to_owned());
    let cluster = DeserializeGuard(Ok(cluster));
    let facts = crate::deployment::fixtures::facts(json!({}), vec![]);
    let stub = Stub::with_cluster(&facts, Some(cluster.clone()), |_| refusal(404));
    for _ in 0..2 {
        let action = super::reconcile(Arc::new(cluster.clone()), stub.context.clone()).await;
        assert_eq!(action.expect("nothing is wrong"), Action::await_change());
    }
    let calls = stub.calls("");
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(calls[0].contains("/events"), "{calls:?}");
}

#[tokio::test]
async fn who_comes_second_to_a_cluster_makes_nothing_for_it() {
    let mut cluster = cluster(YAML);
    cluster.annotations_mut().clear();
    let cluster = DeserializeGuard(Ok(cluster));
    let facts = crate::deployment::fixtures::facts(json!({}), vec![]);
    let stub = Stub::with_cluster(&facts, Some(cluster.clone()), |_| refusal(409));
    let _ = super::reconcile(Arc::new(cluster), stub.context.clone()).await;
    let writes: Vec<String> = stub
        .calls("")
        .into_iter()
        .filter(|call| !call.ends_with("/status"))
        .collect();
    assert_eq!(
        writes,
        ["PATCH /apis/afterglow.dev/v1alpha1/inferenceclusters/default"],
        "its resourceVersion was another operator's"
    );
}

#[test]
fn an_older_api_server_gets_no_device_class() {
    let mut facts = facts(YAML);
    facts.kinds.remove(&Kind::DeviceClass);
    let plan = plan(&facts, &options());
    assert!(plan.apply.iter().all(|child| child.kind != Kind::DeviceClass));
}

fn node(name: &str, offered: i32) -> afterglow_crds::GpuNode {
    let condition = if offered > 0 {
        json!({ "type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" })
    } else {
        json!({
            "type": "Ready", "status": "False", "reason": "NoDevice", "message": "There is no card.",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    serde_json::from_value(json!({
        "apiVersion": "afterglow.dev/v1alpha1", "kind": "GpuNode",
        "metadata": { "name": name, "uid": name },
        "spec": { "cluster": "default" },
        "status": { "offered": offered, "conditions": [condition] },
    }))
    .expect("a node")
}

fn applied(errors: &[&str]) -> Plan<Applied> {
    Plan {
        add_finalizer: false,
        apply: Vec::new(),
        delete: Vec::new(),
        forget: Vec::new(),
        unlabel: Vec::new(),
        waits_for: None,
        is_finished: false,
        errors: errors.iter().map(|&error| error.to_owned()).collect(),
        tenant_errors: Vec::new(),
        stage: std::marker::PhantomData,
    }
}

fn said(facts: &Facts, plan: &Plan<Applied>) -> String {
    let status = status(
        facts,
        plan,
        &check(facts),
        "afterglow-system",
        Timestamp::UNIX_EPOCH,
    );
    let lines: Vec<String> = status
        .conditions
        .iter()
        .map(|condition| {
            format!(
                "{}={} {}: {}",
                condition.type_, condition.status, condition.reason, condition.message
            )
        })
        .collect();
    lines.join("\n")
}

#[test]
fn the_status_counts_and_says_what_to_do() {
    let mut facts = facts(YAML);
    let first = plan(&facts, &options());
    stored(&mut facts, &first);
    facts.gpu_nodes = vec![node("a", 0)];
    facts.judgement = Arc::new(Judgement {
        alive: ["a".to_owned()].into(),
        ..Judgement::default()
    });
    let words = said(&facts, &applied(&[]));
    assert!(words.starts_with("Ready=False NoNodeReady"), "{words}");
    assert!(words.contains("a: There is no card."), "{words}");

    facts.gpu_nodes = vec![node("a", 2)];
    let words = said(&facts, &applied(&[]));
    assert_eq!(
        words,
        "Ready=True Ready: 1 of 1 nodes offer 2 devices; 2 of 2 schedulers answer.\n\
         Progressing=False Complete: Agents and schedulers are as the spec says.\n\
         Degraded=False AsWished: Nothing is worse than wished."
    );
    let now = Timestamp::UNIX_EPOCH;
    let report = |facts: &Facts, now| status(facts, &applied(&[]), &check(facts), "afterglow-system", now);
    let once = report(&facts, now);
    assert_eq!(
        (once.nodes, once.ready_nodes, once.devices, once.ready_schedulers),
        (1, 1, 2, 2)
    );
    assert_eq!(
        once.url.as_deref(),
        Some("http://afterglow-default.afterglow-system.svc:8000")
    );
    facts.cluster.status = Some(once.clone());
    let later = Timestamp::from_second(500).expect("a time");
    assert_eq!(report(&facts, later), once, "the same facts, the same status");

    let words = said(
        &facts,
        &applied(&["patch Service team/afterglow-default: quota exceeded"]),
    );
    assert!(
        words.contains("Ready=False ApplyFailed: patch Service team/afterglow-default: quota exceeded."),
        "{words}"
    );

    facts.judgement = Arc::new(Judgement {
        dead: ["a".to_owned()].into(),
        ..Judgement::default()
    });
    let words = said(&facts, &applied(&[]));
    assert!(words.contains("Degraded=True AgentsSilent"), "{words}");

    change(&mut facts, Kind::DaemonSet, |object| {
        object.data["status"]["desiredNumberScheduled"] = json!(0);
    });
    let words = said(&facts, &applied(&[]));
    assert!(words.contains("kubectl label node NODE gpus=old"), "{words}");
    assert!(condition::find(&report(&facts, now).conditions, READY).is_some());
}

#[test]
fn what_is_refused_in_a_clients_namespace_is_told_and_keeps_nobody_else_from_being_served() {
    let mut facts = facts(YAML);
    let first = plan(&facts, &options());
    stored(&mut facts, &first);
    facts.gpu_nodes = vec![node("a", 2)];
    facts.judgement = Arc::new(Judgement {
        alive: ["a".to_owned()].into(),
        ..Judgement::default()
    });
    let refused = Plan {
        tenant_errors: vec!["patch Service team/afterglow-default: quota exceeded".to_owned()],
        ..applied(&[])
    };
    let words = said(&facts, &refused);
    assert!(words.starts_with("Ready=True Ready"), "{words}");
    assert!(
        words.contains("Degraded=True TenantServiceMissing: ")
            && words.contains("patch Service team/afterglow-default: quota exceeded."),
        "{words}"
    );
}

#[test]
fn what_is_only_being_started_is_no_reason_to_worry() {
    let mut facts = facts(YAML);
    let first = plan(&facts, &options());
    let at = |facts: &Facts, plan: &Plan<Applied>| {
        let now = Timestamp::UNIX_EPOCH;
        status(facts, plan, &check(facts), "afterglow-system", now).conditions
    };
    let worries = |conditions: &[Condition]| -> Vec<String> {
        conditions
            .iter()
            .filter(|condition| [READY, DEGRADED].contains(&condition.type_.as_str()))
            .filter(|condition| is_bad(condition, conditions))
            .map(|condition| condition.reason.clone())
            .collect()
    };
    assert_eq!(
        worries(&at(&facts, &applied(&[]))),
        [""; 0],
        "nothing is there yet"
    );
    let failed = at(&facts, &applied(&["patch DaemonSet: forbidden"]));
    assert_eq!(worries(&failed), ["ApplyFailed", "ApplyFailed"]);
    stored(&mut facts, &first);
    assert_eq!(
        worries(&at(&facts, &applied(&[]))),
        ["NoNodeReady"],
        "all is started, and nothing comes of it"
    );
}

#[test]
fn a_cache_size_that_is_none_is_told() {
    let facts = facts(
        "
metadata: { name: default }
spec: { agent: { cache: { size: much } } }
",
    );
    assert_eq!(check(&facts)[0].reason, "CacheSizeInvalid");
}
