//! Which nodes' agents are alive.
//!
//! Measured by this process' own clock, from when it last *saw* a lease renewed: an old machine's clock may be years off.
//! So after a start of the operator a dead agent is noticed 30 s later, never earlier.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use afterglow_crds::labels;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::watch::{Queues, World};

/// After how long without a renewal an agent is dead.
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// How often leases are looked at.
const TICK: Duration = Duration::from_secs(1);

/// A handle on what is known; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Liveness(watch::Receiver<Arc<Judgement>>);

/// Who is alive, as of the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Nodes whose agent renews its lease.
    pub alive: BTreeSet<String>,
    /// Nodes whose agent did not for 30 s, or that have had no lease for as long.
    pub dead: BTreeSet<String>,
}

impl Liveness {
    /// The last judgement.
    pub(crate) fn now(&self) -> Arc<Judgement> {
        self.0.borrow().clone()
    }

    /// Starts looking; `world` must be ready. Changes make everybody look again.
    pub(crate) fn start(world: World, queues: Queues, tasks: &mut tokio::task::JoinSet<()>) -> Self {
        let mut observer = Observer::default();
        let look = move |observer: &mut Observer| {
            let leases: HashMap<String, Option<MicroTime>> = world
                .leases
                .state()
                .iter()
                .filter_map(|lease| {
                    let lease = lease.0.as_ref().ok()?;
                    let node = lease.name_any().strip_prefix(&labels::lease(""))?.to_owned();
                    let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
                    Some((node, renewed))
                })
                .collect();
            let mut nodes: BTreeSet<String> = world
                .gpu_nodes
                .state()
                .iter()
                .map(|node| node.name_any())
                .collect();
            nodes.extend(world.replicas.state().iter().filter_map(|replica| {
                let replica = replica.0.as_ref().ok()?;
                Some(replica.spec.node_name.clone())
            }));
            let judgement = observer.judge(&leases, &nodes, Instant::now());
            (world.clone(), judgement)
        };
        let (_, first) = look(&mut observer);
        let (sender, receiver) = watch::channel(Arc::new(first));
        tasks.spawn(async move {
            let mut tick = tokio::time::interval(TICK);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                tick.tick().await;
                let (world, judgement) = look(&mut observer);
                if **sender.borrow() != judgement {
                    for node in judgement.dead.difference(&sender.borrow().dead) {
                        tracing::warn!(
                            node,
                            "the node's agent has not renewed its lease for 30 s: it counts as dead"
                        );
                    }
                    sender.send_replace(Arc::new(judgement));
                    world.ask_all(&queues);
                    queues.sweep.notify_one();
                }
            }
        });
        Self(receiver)
    }
}

/// Remembers when it saw which renewal.
#[derive(Debug, Default)]
pub struct Observer(HashMap<String, (Option<MicroTime>, Instant)>);

impl Observer {
    /// Judges every node that has a lease or is among `nodes`; `leases` are the times that stand in them, whatever they are.
    pub fn judge(
        &mut self,
        leases: &HashMap<String, Option<MicroTime>>,
        nodes: &BTreeSet<String>,
        now: Instant,
    ) -> Judgement {
        let known: BTreeSet<&String> = leases.keys().chain(nodes).collect();
        self.0.retain(|node, _| known.contains(node));
        let mut judgement = Judgement::default();
        for node in known {
            let renewed = leases.get(node).cloned().flatten();
            let entry = self
                .0
                .entry(node.clone())
                .or_insert_with(|| (renewed.clone(), now));
            if entry.0 != renewed {
                *entry = (renewed.clone(), now);
            }
            if now.duration_since(entry.1) >= DEAD_AFTER {
                judgement.dead.insert(node.clone());
            } else if renewed.is_some() {
                judgement.alive.insert(node.clone());
            }
        }
        judgement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(node: &str, second: i64) -> HashMap<String, Option<MicroTime>> {
        let time = k8s_openapi::jiff::Timestamp::from_second(second).expect("in range");
        HashMap::from([(node.to_owned(), Some(MicroTime(time)))])
    }

    fn nodes(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn an_agent_dies_thirty_seconds_after_its_last_seen_renewal_whatever_its_clock_says() {
        let mut observer = Observer::default();
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        // The node believes it is 1970.
        assert_eq!(
            observer.judge(&lease("a", 10), &nodes(&["a"]), start).alive,
            nodes(&["a"])
        );
        assert_eq!(
            observer.judge(&lease("a", 20), &nodes(&["a"]), later(10)).alive,
            nodes(&["a"])
        );
        assert_eq!(
            observer.judge(&lease("a", 20), &nodes(&["a"]), later(39)).alive,
            nodes(&["a"])
        );
        let judgement = observer.judge(&lease("a", 20), &nodes(&["a"]), later(40));
        assert_eq!((judgement.alive, judgement.dead), (nodes(&[]), nodes(&["a"])));
        assert_eq!(
            observer.judge(&lease("a", 30), &nodes(&["a"]), later(41)).alive,
            nodes(&["a"]),
            "it is back"
        );
    }

    #[test]
    fn a_node_without_a_lease_is_not_alive_and_in_the_end_dead() {
        let mut observer = Observer::default();
        let start = Instant::now();
        assert_eq!(
            observer.judge(&HashMap::new(), &nodes(&["a"]), start),
            Judgement::default(),
            "its agent may be starting"
        );
        let judgement = observer.judge(&HashMap::new(), &nodes(&["a"]), start + DEAD_AFTER);
        assert_eq!(judgement.dead, nodes(&["a"]));
    }
}
