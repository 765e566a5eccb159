//! Somebody else changes what the operator makes.

use std::time::Duration;

use super::*;
use crate::cluster::contest::Contests;
use crate::cluster::difference::stamp;

#[test]
fn what_is_changed_again_and_again_waits_and_says_by_whom_and_a_new_wish_does_not_wait() {
    let mut facts = facts(YAML);
    let first = plan(&facts, &options());
    stored(&mut facts, &first);
    change(&mut facts, Kind::DaemonSet, |object| {
        object.data["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil");
    });
    let agents = plan(&facts, &options()).apply.remove(0);
    let contests = Contests::default();
    for times in 1..=3 {
        assert_eq!(plan(&facts, &options()).apply.len(), 1, "put back {times} times");
        assert!(!said(&facts, &applied(&[])).contains("Conflict"), "no word yet");
        contests.wrote(
            agents.key(),
            &stamp(&agents),
            Some("argocd".to_owned()),
            facts.now,
        );
        facts.contests = contests.at(facts.now);
    }
    assert_eq!(
        names(&plan(&facts, &options())).0,
        [""; 0],
        "not at once any more"
    );
    let words = said(&facts, &applied(&[]));
    assert!(
        words.contains(
            "Degraded=True Conflict: argocd changes DaemonSet afterglow-system/afterglow-agent-default again"
        ),
        "{words}"
    );

    let mut wished = facts.clone();
    wished.cluster.spec.agent.node_selector.clear();
    assert_eq!(plan(&wished, &options()).apply.len(), 1, "a new wish");

    facts.now += Duration::from_secs(1);
    assert_eq!(plan(&facts, &options()).apply.len(), 1, "its time has come");
}
