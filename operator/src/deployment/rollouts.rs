//! Three rollouts, told step by step: plans are carried out and agents do their part. Whole fleets under random wishes and faults
//! live in `tests/simulation`.

use std::time::Duration;

use afterglow_crds::ModelReplica;
use afterglow_crds::condition::{self, READY};
use kube::ResourceExt as _;
use serde_json::json;

use super::failure::{self, State};
use super::fixtures::{GI, done, facts, gpu_node, object, ready, saying, turn, with};
use super::gather::Facts;
use super::report::status;
use afterglow_crds::quantity::bytes;

/// The API server and the agents of one deployment.
struct World {
    facts: Facts,
    /// Reads as a file's name: models whose digest is in here never load anywhere.
    broken: Option<String>,
}

impl World {
    fn new(spec: serde_json::Value, cards: &[u64]) -> Self {
        let nodes = cards
            .iter()
            .enumerate()
            .map(|(index, memory)| gpu_node(&format!("node-{index}"), &[*memory]))
            .collect();
        Self {
            facts: facts(spec, nodes),
            broken: None,
        }
    }

    /// One reconcile. Returns whether anything was written.
    fn reconcile(&mut self) -> bool {
        let plan = turn(&self.facts);
        let writes = !plan.create.is_empty() || !plan.delete.is_empty();
        let applied = done(plan);
        let mut replicas = self.facts.own.clone();
        for gone in &applied.delete {
            for replica in &mut replicas {
                if replica.name_any() == gone.name_any() {
                    replica.metadata.deletion_timestamp = Some(object(json!("2026-01-01T00:00:00Z")));
                }
            }
        }
        for mut new in applied.create.clone() {
            assert!(
                replicas
                    .iter()
                    .all(|replica| replica.name_any() != new.name_any()),
                "{} is made twice",
                new.name_any()
            );
            new.metadata.uid = Some(new.name_any());
            replicas.push(new);
        }
        let now = "2026-01-01T00:01:00Z".parse().expect("a time");
        let (status, _) = status(&self.facts, &applied, Duration::ZERO, now);
        let changed = self.facts.deployment.status.as_ref() != Some(&status);
        self.facts.deployment.status = Some(status);
        let facts = self.facts.clone();
        self.facts = with(facts, replicas);
        self.hold();
        writes || changed
    }

    /// One agent does its part for one replica.
    fn agent(&mut self, which: usize) {
        let count = self.facts.own.len();
        if count == 0 {
            return;
        }
        let mut replicas = self.facts.own.clone();
        let index = which % count;
        if replicas[index].metadata.deletion_timestamp.is_some() {
            replicas.remove(index);
        } else if failure::state(&replicas[index]) == State::Working {
            let replica = replicas[index].clone();
            let is_broken = self.broken.as_ref() == Some(&replica.spec.model.source.digest);
            replicas[index] = if is_broken {
                saying(replica, "False", "ProbeFailed", "It crashed.")
            } else {
                ready(replica)
            };
        }
        let facts = self.facts.clone();
        self.facts = with(facts, replicas);
    }

    /// Until nobody has anything to do.
    fn settle(&mut self) {
        for _ in 0..200 {
            let mut busy = self.reconcile();
            for index in 0..self.facts.own.len() {
                let before = self.facts.own.clone();
                self.agent(index);
                busy |= self.facts.own != before;
            }
            if !busy {
                return;
            }
        }
        panic!("it never comes to rest: {:#?}", self.facts.own);
    }

    /// What holds at every moment.
    fn hold(&self) {
        for node in &self.facts.gpu_nodes {
            for device in node.status.iter().flat_map(|status| &status.devices) {
                let promised: u64 = self
                    .facts
                    .own
                    .iter()
                    .filter(|replica| {
                        replica.spec.node_name == node.name_any() && replica.spec.device == device.name
                    })
                    .map(|replica| bytes(&replica.spec.memory).expect("a size"))
                    .sum();
                let memory = bytes(&device.memory).expect("a size");
                assert!(
                    promised <= memory,
                    "{} gives away {promised} of {memory}",
                    node.name_any()
                );
            }
        }
    }

    fn serving(&self) -> Vec<&ModelReplica> {
        self.facts
            .own
            .iter()
            .filter(|replica| {
                replica.metadata.deletion_timestamp.is_none() && failure::state(replica) == State::Ready
            })
            .collect()
    }

    fn change(&mut self, digest: &str) {
        self.facts.deployment.spec.model.source.digest = digest.to_owned();
    }

    fn reason(&self) -> &str {
        let status = self.facts.deployment.status.as_ref().expect("a status");
        &condition::find(&status.conditions, READY)
            .expect("a condition")
            .reason
    }
}

#[test]
fn a_rollout_never_serves_with_fewer_and_ends_with_the_newest_only() {
    let mut world = World::new(json!({ "replicas": 2 }), &[8 * GI, 8 * GI, 8 * GI]);
    world.settle();
    assert_eq!((world.serving().len(), world.reason()), (2, "Ready"));
    world.change("sha256:1");
    for step in 0..60 {
        world.reconcile();
        assert!(world.serving().len() >= 2, "step {step}: {:#?}", world.facts.own);
        world.agent(step);
        assert!(world.serving().len() >= 2, "step {step}: {:#?}", world.facts.own);
    }
    world.settle();
    assert_eq!(world.facts.own.len(), 2);
    assert!(world.facts.own.iter().all(|replica| replica.spec.revision == 2));
    assert_eq!(world.reason(), "Ready");
}

#[test]
fn without_room_for_one_more_the_old_revision_goes_on_serving_until_one_may_be_missing() {
    let spec = json!({ "requirements": { "memory": "6Gi" } });
    let mut world = World::new(spec, &[8 * GI]);
    world.settle();
    world.change("sha256:1");
    world.settle();
    assert_eq!(world.reason(), "NoDeviceFits");
    assert_eq!(world.serving()[0].spec.revision, 1, "it goes on serving");
    let status = world.facts.deployment.status.as_ref().expect("a status");
    let message = &condition::find(&status.conditions, READY)
        .expect("a condition")
        .message;
    assert!(
        message.contains("set spec.rollout.maxUnavailable to 1"),
        "{message}"
    );

    world.facts.deployment.spec.rollout.max_unavailable = 1;
    world.settle();
    assert_eq!((world.serving()[0].spec.revision, world.reason()), (2, "Ready"));
}

#[test]
fn a_broken_revision_leaves_the_old_one_serving_and_stops_trying() {
    let mut world = World::new(json!({ "replicas": 2 }), &[8 * GI; 4]);
    world.settle();
    world.broken = Some("sha256:1".to_owned());
    world.change("sha256:1");
    world.settle();
    assert_eq!(world.serving().len(), 2);
    assert!(world.serving().iter().all(|replica| replica.spec.revision == 1));
    assert_eq!(world.reason(), "ReplicaFailed");

    world.change("sha256:2");
    world.settle();
    assert_eq!(world.facts.own.len(), 2, "what failed is gone");
    assert!(world.serving().iter().all(|replica| replica.spec.revision == 3));
    assert_eq!(world.reason(), "Ready");
}
