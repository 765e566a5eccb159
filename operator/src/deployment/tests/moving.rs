//! Replicas that cannot stay where they are.

use super::*;

#[test]
fn a_device_that_fails_is_left_for_another_and_not_tried_twice() {
    let failed = saying(
        replica("bert-1-x", 1, "a", "gpu-0"),
        "False",
        "OutOfMemory",
        "2 GiB were short.",
    );
    let base = facts(
        json!({}),
        vec![gpu_node("a", &[8 * GI]), gpu_node("b", &[8 * GI])],
    );
    let one = settled(with(base, vec![failed.clone()]), 1);
    assert_eq!(places(&turn(&one)), ["b/gpu-0"]);
    assert!(
        turn(&one).delete.is_empty(),
        "it stays as a record until another serves"
    );

    let both = with(
        one.clone(),
        vec![failed.clone(), {
            saying(
                replica("bert-1-y", 1, "b", "gpu-0"),
                "False",
                "ProbeFailed",
                "It crashed.",
            )
        }],
    );
    assert_eq!(places(&turn(&both)), [""; 0], "no device is tried twice");
    assert!(
        said(&both, READY).starts_with("False ReplicaFailed"),
        "{}",
        said(&both, READY)
    );

    let served = with(one, vec![failed, ready(replica("bert-1-y", 1, "b", "gpu-0"))]);
    let deleted: Vec<String> = turn(&served).delete.iter().map(ResourceExt::name_any).collect();
    assert_eq!(deleted, ["bert-1-x"], "another serves: the record goes");
}

#[test]
fn replicas_of_a_dead_node_are_replaced_and_do_not_count() {
    let lost = ready(replica("bert-1-x", 1, "a", "gpu-0"));
    let base = facts(
        json!({}),
        vec![gpu_node("a", &[8 * GI]), gpu_node("b", &[8 * GI])],
    );
    let mut facts = settled(with(base, vec![lost]), 1);
    assert!(said(&facts, READY).starts_with("True Ready"));
    facts.judgement = Arc::new(Judgement {
        alive: ["b".to_owned()].into(),
        dead: ["a".to_owned()].into(),
    });
    assert_eq!(places(&turn(&facts)), ["b/gpu-0"]);
    assert!(
        said(&facts, READY).starts_with("False Progressing: 0 of 1"),
        "{}",
        said(&facts, READY)
    );
    assert!(
        said(&facts, DEGRADED).starts_with("True NodeLost"),
        "{}",
        said(&facts, DEGRADED)
    );
}

#[test]
fn what_a_replica_of_a_dead_node_said_last_is_no_reason_any_more() {
    for reason in ["SourceUnreachable", "OutOfMemory"] {
        let failed = saying(replica("bert-1-x", 1, "a", "gpu-0"), "False", reason, "");
        let base = facts(json!({}), vec![gpu_node("a", &[8 * GI])]);
        let mut facts = settled(with(base, vec![failed]), 1);
        assert!(said(&facts, READY).starts_with("False ReplicaFailed"), "{reason}");
        facts.judgement = Arc::new(Judgement {
            dead: ["a".to_owned()].into(),
            ..Judgement::default()
        });
        let words = said(&facts, READY);
        assert!(words.starts_with("False NoDeviceFits"), "{reason}: {words}");
    }
}

#[test]
fn a_device_that_is_to_be_lent_is_emptied_even_where_no_other_can_take_over() {
    let serving = ready(replica("bert-1-x", 1, "a", "gpu-0"));
    let mut alone = settled(
        with(facts(json!({}), vec![gpu_node("a", &[8 * GI])]), vec![serving]),
        1,
    );
    alone.gpu_nodes[0].spec.lend = vec!["gpu-0".to_owned()];
    assert_eq!(turn(&alone).delete.len(), 1);
    let mut two = alone.clone();
    two.gpu_nodes.push(gpu_node("b", &[8 * GI]));
    two.nodes.insert("b".to_owned(), Machine::default());
    two.judgement = Arc::new(Judgement {
        alive: ["a".to_owned(), "b".to_owned()].into(),
        ..Judgement::default()
    });
    let plan = turn(&two);
    assert_eq!(
        (places(&plan), plan.delete.len()),
        (vec!["b/gpu-0".to_owned()], 0),
        "first another one serves"
    );
}

#[test]
fn a_device_that_is_to_be_lent_is_emptied_when_all_other_tries_have_failed() {
    let serving = ready(replica("bert-1-x", 1, "a", "gpu-0"));
    let failed = |name, node| {
        saying(
            replica(name, 1, node, "gpu-0"),
            "False",
            "ProbeFailed",
            "It crashed.",
        )
    };
    let nodes = ["a", "b", "c", "d"].map(|name| gpu_node(name, &[8 * GI]));
    let mut facts = settled(
        with(
            facts(json!({}), nodes.into()),
            vec![serving, failed("bert-1-y", "b"), failed("bert-1-z", "c")],
        ),
        1,
    );
    facts.gpu_nodes[0].spec.lend = vec!["gpu-0".to_owned()];
    let plan = turn(&facts);
    let deleted: Vec<String> = plan.delete.iter().map(ResourceExt::name_any).collect();
    assert_eq!(
        (places(&plan).len(), deleted),
        (0, vec!["bert-1-x".to_owned()]),
        "it is not tried for ever, and nothing is coming"
    );
    let loading = saying(replica("bert-1-z", 1, "c", "gpu-0"), "False", "Loading", "");
    facts.own[2] = loading;
    assert!(turn(&facts).delete.is_empty(), "one is coming: first it serves");
}

#[test]
fn a_name_that_is_still_held_sends_the_replica_to_another_device() {
    let mut facts = facts(
        json!({}),
        vec![gpu_node("a", &[8 * GI]), gpu_node("b", &[8 * GI])],
    );
    let first = turn(&facts).create[0].clone();
    facts.taken_names.insert(first.name_any());
    let plan = turn(&facts);
    assert_eq!(plan.create.len(), 1, "{:?}", plan.unplaced);
    assert_ne!(plan.create[0].spec.node_name, first.spec.node_name);
    facts.taken_names.insert(plan.create[0].name_any());
    let words = said(&facts, READY);
    assert!(words.contains("is still held by a replica"), "{words}");
}
