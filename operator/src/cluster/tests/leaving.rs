//! What is left behind, and by whom it is taken away.

use super::*;

#[test]
fn a_cluster_leaves_in_order_and_leaves_nothing_behind() {
    let mut facts = facts(YAML);
    let first = plan(&facts, &options());
    stored(&mut facts, &first);
    facts.cluster.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time"));
    facts.replicas = vec!["team/bert-1-x".to_owned()];
    facts.gpu_nodes = vec![node("a", 1)];

    let waiting = plan(&facts, &options());
    assert_eq!(
        names(&waiting),
        (vec![], vec![]),
        "agents are needed while replicas are there"
    );
    assert!(
        waiting
            .waits_for
            .is_some_and(|what| what.contains("team/bert-1-x"))
    );

    facts.replicas.clear();
    let (_, deleted) = names(&plan(&facts, &options()));
    assert_eq!(
        deleted,
        [
            "Deployment afterglow-scheduler-default",
            "DaemonSet afterglow-agent-default"
        ],
        "pods first: without their rights they could not clean up"
    );
    facts
        .children
        .retain(|(kind, ..), _| !matches!(kind, Kind::Deployment | Kind::DaemonSet));
    let (_, deleted) = names(&plan(&facts, &options()));
    assert_eq!(deleted.len(), 11, "{deleted:?}");
    facts.children.retain(|(kind, ..), _| *kind == Kind::DeviceClass);
    let nodes = plan(&facts, &options());
    assert_eq!(nodes.forget.len(), 1);
    assert!(!nodes.is_finished);
    facts.gpu_nodes.clear();
    facts.nodes = on_nodes(&[(
        "a",
        &[
            "afterglow.dev/cluster=default",
            "gpu.afterglow.dev/polaris=1",
            "gpus=old",
        ],
    )]);
    let labelled = plan(&facts, &options());
    assert_eq!(labelled.unlabel.len(), 1);
    assert_eq!(
        labelled.unlabel[0].labels,
        ["afterglow.dev/cluster", "gpu.afterglow.dev/polaris"]
    );
    assert!(!labelled.is_finished);
    facts.nodes = on_nodes(&[("a", &["gpus=old"]), ("b", &["afterglow.dev/cluster=another"])]);

    let mut last = plan(&facts, &options());
    assert!(last.is_finished);
    assert_eq!(names(&last).1, ["DeviceClass gpu.afterglow.dev"]);
    facts.has_siblings = true;
    last = plan(&facts, &options());
    assert_eq!(names(&last).1, [""; 0], "another cluster still needs it");
    assert!(last.is_finished);
}

/// Labels of Kubernetes' nodes, written as `kubectl label` takes them.
fn on_nodes(nodes: &[(&str, &[&str])]) -> BTreeMap<String, BTreeMap<String, String>> {
    let pair = |label: &&str| {
        label
            .split_once('=')
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
    };
    nodes
        .iter()
        .map(|(node, labels)| ((*node).to_owned(), labels.iter().filter_map(pair).collect()))
        .collect()
}

#[test]
fn a_node_that_no_agent_is_meant_for_any_more_loses_the_agents_labels_and_no_other() {
    let mut facts = facts(YAML);
    let ours = [
        "afterglow.dev/cluster=default",
        "afterglow.dev/devices=1",
        "afterglow.dev/pool=main",
    ];
    facts.nodes = on_nodes(&[
        ("selected", &["gpus=old", ours[0], ours[1]]),
        ("speaking", &ours),
        ("silent", &ours),
        ("others", &["afterglow.dev/cluster=another", ours[1]]),
    ]);
    facts.judgement = Arc::new(Judgement {
        alive: ["speaking".to_owned()].into(),
        ..Judgement::default()
    });
    let unlabel = plan(&facts, &options()).unlabel;
    assert_eq!(unlabel.len(), 1, "{unlabel:?}");
    assert_eq!(unlabel[0].node, "silent");
    assert_eq!(
        unlabel[0].labels,
        ["afterglow.dev/cluster", "afterglow.dev/devices"]
    );
}

#[test]
fn a_node_that_no_agent_is_meant_for_is_forgotten_once_its_agent_is_silent() {
    let mut facts = facts(YAML);
    facts.gpu_nodes = vec![node("labelled", 1), node("unlabelled", 1), node("gone", 1)];
    facts.nodes = BTreeMap::from([
        (
            "labelled".to_owned(),
            BTreeMap::from([("gpus".to_owned(), "old".to_owned())]),
        ),
        ("unlabelled".to_owned(), BTreeMap::new()),
    ]);
    let forgotten = |facts: &Facts| -> Vec<String> {
        plan(facts, &options())
            .forget
            .iter()
            .map(ResourceExt::name_any)
            .collect()
    };
    assert_eq!(forgotten(&facts), ["unlabelled", "gone"]);
    facts.judgement = Arc::new(Judgement {
        alive: ["unlabelled".to_owned()].into(),
        ..Judgement::default()
    });
    assert_eq!(
        forgotten(&facts),
        ["gone"],
        "an agent that still speaks is still there"
    );
}
